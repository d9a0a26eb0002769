/* Streams a step that `kseq.export` wrote as .onnx: raw float32 frames from stdin, outputs to stdout.
 *
 *     cc -O2 stream_onnx.c -lonnxruntime -o stream_onnx        (Debian: libonnxruntime-dev)
 *     ./stream_onnx step.onnx < frames.f32 > outputs.f32
 *
 * For a step of one float32 input and one output without masks, whose state begins as zeros or is given as raw bytes of
 * all leaves, one after the other, in a second file: `./stream_onnx step.onnx state.bin`. The state goes from buffer to
 * buffer and back, so nothing is allocated while it streams.
 */
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 256

static const OrtApi *ort;

static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "onnxruntime: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

typedef struct {
    char *name;
    int64_t shape[16];
    size_t rank, bytes;
    ONNXTensorElementDataType type;
} Port;

static size_t width(ONNXTensorElementDataType type) {
    switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return 8;
    default: return 4; /* float, int32, uint32 */
    }
}

static Port port(OrtSession *session, OrtAllocator *allocator, size_t index, int is_input) {
    Port p;
    OrtTypeInfo *info;
    const OrtTensorTypeAndShapeInfo *tensor;
    if (is_input) {
        check(ort->SessionGetInputName(session, index, allocator, &p.name));
        check(ort->SessionGetInputTypeInfo(session, index, &info));
    } else {
        check(ort->SessionGetOutputName(session, index, allocator, &p.name));
        check(ort->SessionGetOutputTypeInfo(session, index, &info));
    }
    check(ort->CastTypeInfoToTensorInfo(info, &tensor));
    check(ort->GetTensorElementType(tensor, &p.type));
    check(ort->GetDimensionsCount(tensor, &p.rank));
    check(ort->GetDimensions(tensor, p.shape, p.rank));
    p.bytes = width(p.type);
    for (size_t axis = 0; axis < p.rank; axis++) p.bytes *= (size_t)p.shape[axis];
    ort->ReleaseTypeInfo(info);
    return p;
}

static OrtValue *tensor(const OrtMemoryInfo *memory, const Port *p, void *data) {
    OrtValue *value;
    check(ort->CreateTensorWithDataAsOrtValue(memory, data, p->bytes, p->shape, p->rank, p->type, &value));
    return value;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s step.onnx [state.bin] < frames > outputs\n", argv[0]);
        return 2;
    }
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtAllocator *allocator;
    OrtMemoryInfo *memory;
    size_t count, made;
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "kseq", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->SessionGetInputCount(session, &count));
    check(ort->SessionGetOutputCount(session, &made));
    if (count != made || count > MOST) {
        fprintf(stderr, "a step of one input and one output is wanted; %zu tensors go in, %zu come out\n", count, made);
        return 1;
    }
    /* The frames, then the leaves of the state; two values of each leaf, of which a call reads one and writes the other. */
    static OrtValue *inputs[2][MOST], *outputs[2][MOST];
    const char *takes[MOST], *gives[MOST];
    FILE *state = argc > 2 ? fopen(argv[2], "rb") : NULL;
    if (argc > 2 && state == NULL) return perror(argv[2]), 1;
    Port in = port(session, allocator, 0, 1), out = port(session, allocator, 0, 0);
    void *x = malloc(in.bytes), *y = malloc(out.bytes);
    takes[0] = in.name, gives[0] = out.name;
    for (int turn = 0; turn < 2; turn++) inputs[turn][0] = tensor(memory, &in, x), outputs[turn][0] = tensor(memory, &out, y);
    for (size_t i = 1; i < count; i++) {
        Port leaf = port(session, allocator, i, 1), renewed = port(session, allocator, i, 0);
        takes[i] = leaf.name, gives[i] = renewed.name;
        for (int turn = 0; turn < 2; turn++) {
            void *data = calloc(1, leaf.bytes ? leaf.bytes : 1);
            if (turn == 0 && state != NULL && fread(data, 1, leaf.bytes, state) != leaf.bytes) {
                fprintf(stderr, "the state ends before the leaf %s\n", leaf.name);
                return 1;
            }
            inputs[turn][i] = outputs[1 - turn][i] = tensor(memory, &leaf, data);
        }
    }
    for (int turn = 0; fread(x, 1, in.bytes, stdin) == in.bytes; turn = 1 - turn) {
        check(ort->Run(session, NULL, takes, (const OrtValue *const *)inputs[turn], count, gives, made, outputs[turn]));
        if (fwrite(y, 1, out.bytes, stdout) != out.bytes) return perror("stdout"), 1;
    }
    return 0;
}
