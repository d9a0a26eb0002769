"""Fuzz the spec loader: any bytes must give a model or a `SpecError`, in bounded time and memory.

    python tests/spec/fuzz.py bounded 2000 [SEED]

changes specs in ways that make models huge, or reading slow, and loads each in a child of its own that has but so many
seconds and bytes. By coverage, after `pip install atheris`:

    python tests/spec/fuzz.py -max_total_time=600 -timeout=20 -rss_limit_mb=4096 CORPUS_FOLDER

Both begin with the shipped specs and the wrong specs of the tests.
"""

import os
import pathlib
import random
import re
import resource
import sys
import traceback

HERE = pathlib.Path(__file__).parent
SMALL = {"bytes": 20_000, "nodes": 2_000, "layers": 20, "repeats": 20, "parameters": 10_000}
# In the bounded runs: the limits that a spec has by default, but for the weights, which would fill the memory.
PARAMETERS = 1_000_000
SECONDS, MEMORY = 10, 1 << 30  # of one input, above what Python and Keras take
WRONG, EXCEEDED = 3, 4  # how a child ends


def seeds() -> list[str]:
    import kseq.spec

    wrong = (HERE / "wrong_specs.txt").read_text().split("====\n")
    return [path.read_text() for path in kseq.spec.shipped().values()] + [one.split("\n----\n")[0] for one in wrong]


def load(data: bytes, **limits):
    import kseq

    try:
        kseq.load_spec(data, limits=kseq.spec.Limits(**limits))
    except kseq.SpecError as error:
        str(error).encode()


def in_a_child(data: bytes, run=load) -> str | None:
    """What is wrong with loading some bytes, or `None`."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        ends = {0: None, WRONG: "an error of another kind", EXCEEDED: f"more than {MEMORY} bytes"}
        return ends.get(os.waitstatus_to_exitcode(status), f"more than {SECONDS} seconds, or a crash")
    status = WRONG
    try:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        run(data, parameters=PARAMETERS)
        status = 0
    except MemoryError:
        status = EXCEEDED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


NUMBERS = ["0", "-1", "1e-3", "300000000", "4096", "1e9", "9223372036854775807", "99999999999999999999999", "1e999"]
TYPES = """Conv1D: {filters: $n, kernel_size: $n}
Conv1D: {filters: 2, kernel_size: 2, strides: $n, dilation_rate: $n}
DepthwiseConv1D: {kernel_size: 2, dilation_rate: $n}
Dense: {units: $n}
keras.Dense: {units: $n}
GRU: {units: $n}
Delay: {length: $n}
Lookahead: {length: $n}
MaxPooling1D: {pool_size: $n, strides: 1}
AveragePooling1D: {pool_size: $n}
LocalSelfAttention: {num_heads: $n, key_dim: $n, max_past_horizon: $n, max_future_horizon: $n}
SelfAttention: {num_heads: $n, key_dim: 2, max_length: $n, num_sink_steps: $n, prefix_length: $n}
SelfAttention: {num_heads: 2, key_dim: 2, block_size: $n, max_rollback: $n, position: {T5Position: {num_buckets: $n}}}
SelfAttention: {num_heads: 2, key_dim: $n, max_past_horizon: $n, position: {ShawPosition: {max_backward: $n}}}
Residual: {layers: [{Lookahead: {length: $n}}]}
Parallel: {combination: concat, layers: [{Dense: {units: $n}}, {Dense: {units: $n}}]}
Repeat: {num_repeats: $n, layers: [{Dense: {units: 4}}]}
EinsumDense: {equation: abc,cd->abd, output_shape: [null, $n]}
PReLU: {}
Embedding: {input_dim: $n, output_dim: $n}""".splitlines()
METRICS = ["MeanIoU: {num_classes: $n}", "AUC: {num_thresholds: $n}", "F1Score: {}", "PrecisionAtRecall: {recall: 0.5}"]


def changed(text: str, chance: random.Random) -> bytes:
    """A spec with some changes."""
    for _ in range(chance.randint(1, 4)):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:  # a number becomes another
                numbers = list(re.finditer(r"\d+", text))
                if numbers:
                    start, end = chance.choice(numbers).span()
                    text = text[:start] + chance.choice(NUMBERS) + text[end:]
            case 1:  # a line comes often
                text = "\n".join(lines[:at] + lines[at : at + 1] * chance.choice([2, 30, 3000]) + lines[at + 1 :])
            case 2:  # layers
                layer = chance.choice(TYPES).replace("$n", chance.choice([*NUMBERS, "4", "64"]))
                text = text.replace("layers:\n", "layers:\n" + f"  - {layer}\n" * chance.choice([1, 3, 100]), 1)
            case 3:  # metrics
                metric = chance.choice(METRICS).replace("$n", chance.choice([*NUMBERS, "7"]))
                metrics = ", ".join(f"{{{metric}}}" for _ in range(chance.choice([1, 50, 500])))
                text += f"\ncompile: {{loss: mse, metrics: [{metrics}]}}\n"
            case 4:  # names that are near none, and long
                name = "".join(chance.choice("ab") for _ in range(chance.choice([5, 119])))
                text = re.sub(r"\w+(?=:)", lambda found, n=name: found[0] if chance.random() < 0.7 else n, text)
            case 5:  # unknown variables
                names = [f"{chance.getrandbits(300):b}"[:119].replace("1", "a").replace("0", "b") for _ in range(300)]
                text += "\nvars: {" + ", ".join(f"{name}: 1" for name in names) + "}"
                text += "\nblocks: {x: [{Dense: {units: [" + ", ".join(f"${name[::-1]}" for name in names) + "]}}]}\n"
            case 6:  # anything
                start, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
                inserted = "".join(chance.choice("{}[]:,-?|>&*!%@`'\"#$~ \n\tabk1.e<\x1b\u202e") for _ in range(5))
                text = text[:start] + inserted + text[min(end, start + 50) :]
    return text.encode("utf-8", "surrogatepass")


def bounded(count, seed=0, run=load) -> list[tuple[str, bytes]]:
    """What is wrong with how many changed specs, each with the spec."""
    chance, known = random.Random(seed), seeds()
    for text in known[:5]:
        run(text.encode(), parameters=PARAMETERS)  # what all need is imported once
    tried = (changed(chance.choice(known), chance) for _ in range(count))
    return [(wrong, data) for data in tried if (wrong := in_a_child(data, run))]


def by_coverage():
    import atheris

    with atheris.instrument_imports(include=["kseq.spec", "yaml", "json"]):
        import kseq.spec  # noqa: F401
    for folder in map(pathlib.Path, [argument for argument in sys.argv[1:] if not argument.startswith("-")]):
        folder.mkdir(parents=True, exist_ok=True)
        for i, text in enumerate(seeds()):
            (folder / f"seed{i}").write_text(text)
    atheris.Setup(sys.argv, lambda data: load(data, **SMALL))
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["bounded"]:
        found = bounded(*map(int, sys.argv[2:]))
        for i, (wrong, data) in enumerate(found):
            pathlib.Path(f"wrong{i}.yaml").write_bytes(data)
            print(f"{wrong}: wrong{i}.yaml")
        print(f"{len(found)} wrong of {sys.argv[2]}")
        sys.exit(bool(found))
    by_coverage()
