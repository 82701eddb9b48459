"""Build the ONNX graph of the text network node by node, which decides what is fused and what is int8.

int8 is for weights only: each output channel of a matrix (each row of the word table) has its own scale, symmetric,
rounded to nearest; activations stay float32. Matrices are read through DequantizeLinear, words after their Gather.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]
Precision = Literal["float32", "int8"]

OPSET = 17
LAYERS, HEADS, WIDTH = 6, 12, 384
_LAYER_NORM_EPSILON = 1e-12
_MASKED = -1e4


def quantize_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a matrix: an int8 matrix and the scale of each row (float32, rows), so that matrix ~ int8 * scale."""
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-8).astype(np.float32) / np.float32(127)
    return np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8), scale


class _Graph:
    """Nodes and initializers under construction; every method returns the name of what it adds."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def linear(
        self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], name: str, out: str | None = None
    ) -> str:
        """Multiply and add: x @ weight.T + bias; `weight` is (out x in), as in PyTorch."""
        if self.precision == "int8":
            quantized, scale = quantize_rows(weight)
            q = self.constant(f"{name}.int8", quantized.T)
            matrix = self.node("DequantizeLinear", [q, self.constant(f"{name}.scale", scale)], f"{name}.weight", axis=1)
        else:
            matrix = self.constant(f"{name}.weight", weight.T)
        product = self.node("MatMul", [x, matrix], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", bias)], out or f"{name}.out")

    def rows(self, table: NDArray[np.float32], ids: str, name: str) -> str:
        """Gather the rows `ids` of a table."""
        if self.precision == "float32":
            return self.node("Gather", [self.constant(f"{name}.table", table), ids], f"{name}.rows")
        quantized, scale = quantize_rows(table)
        picked = self.node("Gather", [self.constant(f"{name}.int8", quantized), ids], f"{name}.picked")
        scales = self.node("Gather", [self.constant(f"{name}.scale", scale[:, None]), ids], f"{name}.scales")
        return self.node(
            "Mul", [self.node("Cast", [picked], f"{name}.cast", to=TensorProto.FLOAT), scales], f"{name}.rows"
        )

    def norm(self, x: str, weights: Weights, prefix: str, name: str) -> str:
        gain = self.constant(f"{name}.gain", weights[f"{prefix}.weight"])
        shift = self.constant(f"{name}.shift", weights[f"{prefix}.bias"])
        return self.node("LayerNormalization", [x, gain, shift], f"{name}.out", axis=-1, epsilon=_LAYER_NORM_EPSILON)

    def gelu(self, x: str, name: str) -> str:
        """Activate: x * (1 + erf(x / sqrt 2)) / 2 (Hendrycks & Gimpel 2016)."""
        scaled = self.node("Div", [x, "sqrt_two"], f"{name}.scaled")
        curve = self.node("Add", [self.node("Erf", [scaled], f"{name}.erf"), "one"], f"{name}.curve")
        return self.node("Mul", [self.node("Mul", [x, curve], f"{name}.twice"), "half"], f"{name}.out")


def build(weights: Weights, precision: Precision) -> onnx.ModelProto:
    """Build and check the ONNX model of the network's weights (float32, by their PyTorch names).

    Inputs `input_ids`, `attention_mask` (int64, n x t); outputs `logits` (n x 9, before temperature), `goemotions`
    (n x 28, logits), `embedding` (n x 384: last layer, mean over the real tokens) and `layers` (n x 2688: the same mean
    of the embedding layer and of each of the six layers, for heads that need more than the last one), all float32.
    """
    graph = _Graph(precision)
    for name, value in (("one", 1.0), ("half", 0.5), ("sqrt_two", 2**0.5), ("masked", _MASKED), ("root", 32**-0.5)):
        graph.constant(name, np.array(value, dtype=np.float32))
    graph.constant("axis_1", np.array([1], dtype=np.int64))
    graph.constant("axis_2", np.array([2], dtype=np.int64))
    graph.constant("axes_1_2", np.array([1, 2], dtype=np.int64))
    graph.constant("split_heads", np.array([0, 0, HEADS, WIDTH // HEADS], dtype=np.int64))
    graph.constant("join_heads", np.array([0, 0, WIDTH], dtype=np.int64))

    mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    token_weights = graph.node("Unsqueeze", [mask, "axis_2"], "token_weights")
    total = graph.node("ReduceSum", [token_weights, "axis_1"], "total", keepdims=0)
    hidden_from = graph.node("Sub", ["one", graph.node("Unsqueeze", [mask, "axes_1_2"], "mask_4d")], "hidden_from")
    bias = graph.node("Mul", [hidden_from, "masked"], "attention_bias")

    x = _embeddings(graph, weights)
    means = [_mean(graph, x, token_weights, total, "layer_0", "layer_0.mean")]
    for layer in range(LAYERS):
        x = _layer(graph, weights, x, bias, layer)
        # Outputs are named where they are made: runtimes report either name of a tensor behind an Identity.
        out = "embedding" if layer + 1 == LAYERS else f"layer_{layer + 1}.mean"
        means.append(_mean(graph, x, token_weights, total, f"layer_{layer + 1}", out))
    graph.node("Concat", means, "layers", axis=1)
    for head, output in (("emotions", "logits"), ("goemotions", "goemotions")):
        graph.linear(means[-1], weights[f"{head}.weight"], weights[f"{head}.bias"], f"head_{head}", out=output)
    return _model(graph, {"logits": 9, "goemotions": 28, "embedding": WIDTH, "layers": WIDTH * (LAYERS + 1)})


def _embeddings(graph: _Graph, weights: Weights) -> str:
    prefix = "encoder.embeddings"
    # Token types are all zero, so their one row is added to every position.
    positions = weights[f"{prefix}.position_embeddings.weight"] + weights[f"{prefix}.token_type_embeddings.weight"][:1]
    graph.constant("positions", positions.astype(np.float32))
    graph.constant("from_0", np.array([0], dtype=np.int64))
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    here = graph.node("Slice", ["positions", "from_0", length, "from_0"], "positions_here")
    words = graph.rows(weights[f"{prefix}.word_embeddings.weight"], "input_ids", "words")
    return graph.norm(graph.node("Add", [words, here], "embedded"), weights, f"{prefix}.LayerNorm", "embedding_norm")


def _layer(graph: _Graph, weights: Weights, x: str, bias: str, layer: int) -> str:
    here, prefix = f"l{layer + 1}", f"encoder.encoder.layer.{layer}"
    inner = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
    merged = [np.concatenate([weights[f"{part}.{kind}"] for part in inner]) for kind in ("weight", "bias")]
    qkv = graph.linear(x, merged[0], merged[1], f"{here}.qkv")
    parts = [f"{here}.{part}" for part in "qkv"]
    graph.nodes.append(helper.make_node("Split", [qkv], parts, name=f"{here}.split", axis=2))
    split = [graph.node("Reshape", [part, "split_heads"], f"{part}.heads") for part in parts]
    q, v = (graph.node("Transpose", [split[at]], f"{parts[at]}.turned", perm=[0, 2, 1, 3]) for at in (0, 2))
    k = graph.node("Transpose", [split[1]], f"{parts[1]}.turned", perm=[0, 2, 3, 1])
    scores = graph.node("MatMul", [graph.node("Mul", [q, "root"], f"{here}.q.scaled"), k], f"{here}.scores")
    p = graph.node("Softmax", [graph.node("Add", [scores, bias], f"{here}.masked")], f"{here}.p", axis=-1)
    mixed = graph.node("Transpose", [graph.node("MatMul", [p, v], f"{here}.mixed")], f"{here}.back", perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", [mixed, "join_heads"], f"{here}.joined")
    x = _residual(graph, weights, x, joined, f"{prefix}.attention.output", f"{here}.attention")
    wide = graph.linear(x, *_pair(weights, f"{prefix}.intermediate.dense"), f"{here}.wide")
    return _residual(graph, weights, x, graph.gelu(wide, f"{here}.gelu"), f"{prefix}.output", f"{here}.output")


def _residual(graph: _Graph, weights: Weights, x: str, inner: str, prefix: str, name: str) -> str:
    out = graph.linear(inner, *_pair(weights, f"{prefix}.dense"), name)
    return graph.norm(graph.node("Add", [out, x], f"{name}.sum"), weights, f"{prefix}.LayerNorm", f"{name}.norm")


def _pair(weights: Weights, prefix: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]


def _mean(graph: _Graph, x: str, token_weights: str, total: str, name: str, out: str) -> str:
    weighted = graph.node("Mul", [x, token_weights], f"{name}.weighted")
    summed = graph.node("ReduceSum", [weighted, "axis_1"], f"{name}.summed", keepdims=0)
    return graph.node("Div", [summed, total], out)


def _model(graph: _Graph, outputs: Mapping[str, int]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in outputs.items()]
    body = helper.make_graph(graph.nodes, "text_affect", inputs, results, graph.initializers)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="affectstream"
    )
    onnx.checker.check_model(model)
    return model
