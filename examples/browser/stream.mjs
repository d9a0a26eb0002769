// Streams a step that `kseq.export` wrote as .onnx: the state goes from a call's outputs to the next one's inputs.
// `ort` is onnxruntime-web's namespace.

const KINDS = { float32: Float32Array, int32: Int32Array, uint32: Uint32Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array };

function tensor(ort, type, dims, values) {
  const size = dims.reduce((a, b) => a * b, 1);
  const data = type === "int64" ? new BigInt64Array(size) : new KINDS[type](size);
  if (values) data.set(values);
  return new ort.Tensor(type, data, dims);
}

export class StepStream {
  // `initial` has by name the leaves of the state that do not begin as zeros: `{dims, values}` is not needed for others.
  static async open(ort, model, initial = {}) {
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return new StepStream(ort, session, initial);
  }

  constructor(ort, session, initial) {
    this.ort = ort;
    this.session = session;
    const count = session.outputNames.length - session.inputNames.length;
    // Inputs before the state, and outputs before the new state: as many leaves come in as go out.
    const leaves = session.outputNames.filter((name) => name.startsWith("new_"));
    this.outputs = session.outputNames.slice(0, session.outputNames.length - leaves.length);
    this.inputs = session.inputNames.slice(0, this.outputs.length - count);
    this.leaves = session.inputNames.slice(this.inputs.length);
    this.renewed = session.outputNames.slice(this.outputs.length);
    this.kinds = Object.fromEntries(session.inputMetadata.map((m) => [m.name, m]));
    this.state = Object.fromEntries(
      this.leaves.map((name) => [name, tensor(ort, this.kinds[name].type, this.kinds[name].shape, initial[name])]),
    );
  }

  // One block: a typed array for each input, of the size that the file says; gives those of the outputs.
  async push(...blocks) {
    const feeds = { ...this.state };
    this.inputs.forEach((name, i) => {
      feeds[name] = tensor(this.ort, this.kinds[name].type, this.kinds[name].shape, blocks[i]);
    });
    const found = await this.session.run(feeds);
    this.leaves.forEach((name, i) => (this.state[name] = found[this.renewed[i]]));
    return this.outputs.map((name) => found[name].data);
  }
}
