"""The weights of a TensorFlow Lite file, as PyTorch lays them out."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape_hub.conversion.verify import ConversionError

ORDERS = {
    "CONV_2D": (0, 3, 1, 2),  # (Cout, k, k, Cin)
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),  # (1, k, k, C)
    "Convolution2DTransposeBias": (3, 0, 1, 2),  # (Cout, k, k, Cin), MediaPipe's own; PyTorch: (Cin, Cout, k, k)
}
"""Operation -> how its weight is permuted."""


def convolutions(model: bytes) -> list[tuple[Tensor, Tensor]]:
    """(weight (Cout, Cin or 1, k, k), bias (Cout)) in float32 of every convolution of the file ``model``, in its order.

    The weights must be stored in fp16. Nothing is run. ConversionError where ai-edge-litert is missing.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        raise ConversionError("reading a .tflite file needs ai-edge-litert: pip install ai-edge-litert.") from None
    interpreter = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    stored: dict[int, int] = {}  # fp32 tensor that the graph uses -> fp16 constant in the file
    found = []
    for op in interpreter._get_ops_details():
        inputs, outputs = [int(i) for i in op["inputs"]], [int(i) for i in op["outputs"]]
        if op["op_name"] == "DEQUANTIZE":
            stored[outputs[0]] = inputs[0]
        elif op["op_name"] in ORDERS:
            weight, bias = (torch.from_numpy(interpreter.get_tensor(stored[i]).copy()).float() for i in inputs[1:3])
            found.append((weight.permute(*ORDERS[op["op_name"]]).contiguous(), bias))
    return found
