"""The C program and the page of `examples/` stream an exported step as Python does."""

import functools
import http.server
import json
import os
import pathlib
import runpy
import shutil
import subprocess
import threading

import keras
import numpy as np
import pytest

import kseq

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="ONNX is written on torch"),
]

_EXAMPLES = pathlib.Path(kseq.__file__).parents[1] / "examples"


def _export(folder):
    return runpy.run_path(str(_EXAMPLES / "browser/export_step.py"))["write"](folder)


def test_c_program(tmp_path):
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    # Debian's libonnxruntime-dev has the header and the library; `KSEQ_ONNXRUNTIME_INCLUDE` names a folder with it, for
    # the library that comes with the Python package.
    include = os.environ.get("KSEQ_ONNXRUNTIME_INCLUDE")
    flags = ["-lonnxruntime"]
    if include:
        [library, *_] = pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.1*")
        flags = [f"-I{include}", str(library), f"-Wl,-rpath,{library.parent}"]
        (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    program = tmp_path / "stream_onnx"
    made = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", program, _EXAMPLES / "stream_onnx.c", *flags], capture_output=True, text=True
    )
    if "onnxruntime_c_api.h" in made.stderr and "No such file" in made.stderr:
        pytest.skip("no header of onnxruntime's C API: Debian's libonnxruntime-dev")
    assert made.returncode == 0, made.stderr
    wanted = _export(tmp_path)
    frames = np.array(json.loads((tmp_path / "frames.json").read_text()), "float32")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    run = subprocess.run(
        [program, tmp_path / "step.onnx"], input=frames.tobytes(), capture_output=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    got = np.frombuffer(run.stdout, "float32").reshape(wanted.shape)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_page(tmp_path):
    browser = shutil.which("chromium") or pytest.skip("no chromium")
    runtime = os.environ.get("KSEQ_ONNXRUNTIME_WEB") or pytest.skip(
        "KSEQ_ONNXRUNTIME_WEB does not name the folder `dist` of the npm package onnxruntime-web"
    )
    wanted = _export(tmp_path)
    for name in ("index.html", "stream.mjs"):
        shutil.copy(_EXAMPLES / "browser" / name, tmp_path)
    (tmp_path / "ort").symlink_to(pathlib.Path(runtime).resolve())

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/user"]
        address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        found = subprocess.run(
            [browser, *options, "--timeout=60000", "--virtual-time-budget=60000", "--dump-dom", address],
            capture_output=True,
            text=True,
            timeout=200,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "<title>done</title>" in found.stdout, found.stdout + found.stderr
    shown = found.stdout.partition('<pre id="outputs">')[2].partition("</pre>")[0]
    np.testing.assert_allclose(np.array(json.loads(shown)), wanted, atol=1e-5)
