"""A model as an ONNX graph with a cache of keys and values, made node by node.

Inputs and outputs have the names that optimum and onnxruntime-genai use, so their clients fit.
The graph stays within opset 17: no operator of any vendor. Dimension letters: B batch, T query,
P past, S = P + T, C width, H heads, K key-value heads, G = H / K, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cllm import __version__
from cllm.errors import SettingsError
from cllm.export.plain_model import load_plain, require_dtype, stored_as, write_beside
from cllm.model import ModelSpec, Weights

if TYPE_CHECKING:
    from onnx import ModelProto
else:
    # onnx is loaded by whoever exports.
    ModelProto = Any

ONNX_DTYPES = ("float32", "float16")
ONNX_FILE = "model.onnx"
OPSET, IR_VERSION = 17, 8
# A file of protobuf holds less than 2 GiB; above this the weights lie in a file of their own.
MOST_BYTES_INSIDE = 1_500_000_000
# What a masked score becomes. Finite, so that a row of padding alone gives no NaN.
_MASKED = float(np.finfo(np.float32).min)


def write_onnx(folder: Path, output: Path, *, dtype: str | None = None) -> list[Path]:
    """Write the model in `folder` as `model.onnx`, with its tokeniser, into the folder `output`.

    Of `float16`, the weights take half the bytes and are computed with in float32. Returns the
    files. Raises: InputError for mechanisms that can't be exported, SettingsError, IntegrityError.
    """
    dtype = require_dtype(dtype, ONNX_DTYPES, "ONNX")
    try:
        import onnx
    except ModuleNotFoundError:
        hint = "Install it: pip install onnx"
        raise SettingsError("the package onnx is not installed", where="--to", hint=hint) from None
    spec, weights = load_plain(folder)
    output.mkdir(parents=True, exist_ok=True)
    model, path = build_model(spec, weights, dtype), output / ONNX_FILE
    written = [path]
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MOST_BYTES_INSIDE:
        data = f"{ONNX_FILE}_data"
        onnx.save_model(model, path, save_as_external_data=True, location=data)
        written.append(output / data)
    else:
        onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)
    return [*written, *write_beside(folder, spec, output)]


def build_model(spec: ModelSpec, weights: Weights, dtype: str = "float32") -> ModelProto:
    """The whole model; `dtype` is that of the stored matrices."""
    from onnx import TensorProto, helper

    graph = _Graph(np.dtype(dtype))
    whole, real = TensorProto.INT64, TensorProto.FLOAT
    past: list[str | int | None] = ["batch", spec.kv_heads, "past", spec.head_width]
    present: list[str | int | None] = ["batch", spec.kv_heads, "total", spec.head_width]
    inputs = [
        helper.make_tensor_value_info("input_ids", whole, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", whole, ["batch", "total"]),
        helper.make_tensor_value_info("position_ids", whole, ["batch", "sequence"]),
    ]
    shape: list[str | int | None] = ["batch", "sequence", spec.vocab_size]
    outputs = [helper.make_tensor_value_info("logits", real, shape)]
    for layer in range(spec.layers):
        for part in ("key", "value"):
            old, new = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
            inputs.append(helper.make_tensor_value_info(old, real, past))
            outputs.append(helper.make_tensor_value_info(new, real, present))
    _add_transformer(graph, spec, weights)
    return helper.make_model(
        helper.make_graph(graph.nodes, "cllm", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cllm",
        producer_version=__version__,
    )


class _Graph:
    """Nodes and constants as they are added; each method returns the name of its result."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._dtype = dtype
        self._names: dict[str, str] = {}

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """One node with one output."""
        return self.split(kind, inputs, 1, name=name, **attributes)[0]

    def split(
        self,
        kind: str,
        inputs: Sequence[str],
        count: int,
        *,
        name: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """One node with `count` outputs."""
        from onnx import helper

        stem = name or f"{kind}_{len(self.nodes)}"
        outputs = [stem] if count == 1 else [f"{stem}.{place}" for place in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=stem, **attributes))
        return outputs

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant, once for each name."""
        from onnx import numpy_helper

        if name not in self._names:
            self._names[name] = name
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return self._names[name]

    def whole(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.constant(f"whole_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def real(self, value: float) -> str:
        """One number."""
        return self.constant(f"real_{value!r}", np.array(value, np.float32))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """A matrix of weights in the format they are stored in; used in float32."""
        from onnx import TensorProto

        if name not in self._names:
            stored = self.constant(name, stored_as(name, value, self._dtype.name))
            if self._dtype != np.float32:
                stored = self.add("Cast", stored, name=f"{name}.float32", to=TensorProto.FLOAT)
            self._names[name] = stored
        return self._names[name]


def _add_transformer(graph: _Graph, spec: ModelSpec, weights: Weights) -> None:
    table = graph.weight("embedding.weight", weights["embedding.weight"])
    x = graph.add("Gather", table, "input_ids")
    turns = _turns(graph, spec)
    allowed = _allowed(graph)
    for layer in range(spec.layers):
        block = f"blocks.{layer}"
        normed = _norm(graph, x, f"{block}.attention_norm", spec, weights)
        x = graph.add("Add", x, _attention(graph, normed, layer, spec, weights, (*turns, allowed)))
        normed = _norm(graph, x, f"{block}.feed_forward_norm", spec, weights)
        gate_up = _product(graph, normed, f"{block}.feed_forward.gate_up", weights)
        gate, up = graph.split("Split", [gate_up], 2, axis=-1)
        gate = graph.add("Mul", gate, graph.add("Sigmoid", gate))
        mixed = graph.add("Mul", gate, up)
        x = graph.add("Add", x, _product(graph, mixed, f"{block}.feed_forward.down", weights))
    x = _norm(graph, x, "norm", spec, weights)
    is_tied = "head.weight" not in weights
    head = table if is_tied else graph.weight("head.weight", weights["head.weight"])
    graph.add("MatMul", x, graph.add("Transpose", head, perm=[1, 0]), name="logits")


def _product(graph: _Graph, x: str, name: str, weights: Weights) -> str:
    return graph.add("MatMul", x, graph.weight(f"{name}.weight", weights[f"{name}.weight"].T))


def _norm(graph: _Graph, x: str, name: str, spec: ModelSpec, weights: Weights) -> str:
    """RMSNorm over the last axis."""
    square = graph.add("ReduceMean", graph.add("Pow", x, graph.real(2.0)), axes=[-1], keepdims=1)
    root = graph.add("Sqrt", graph.add("Add", square, graph.real(spec.norm_epsilon)))
    gain = graph.constant(f"{name}.weight", weights[f"{name}.weight"].astype(np.float32))
    return graph.add("Mul", graph.add("Div", x, root), gain)


def _turns(graph: _Graph, spec: ModelSpec) -> tuple[str, str]:
    """Cosines and sines of each token's position, [B, T, 1, D / 2]."""
    pairs = np.arange(0, spec.head_width, 2) / spec.head_width
    angles = np.outer(np.arange(spec.context), spec.rope_base**-pairs)
    found = []
    for name, values in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
        rows = graph.add("Gather", graph.constant(name, values.astype(np.float32)), "position_ids")
        found.append(graph.add("Unsqueeze", rows, graph.whole(2)))
    return found[0], found[1]


def _allowed(graph: _Graph) -> str:
    """Whether a query may look at a key, [B, 1, 1, T, S]: not ahead, not at padding."""
    from onnx import TensorProto

    def length(of: str, axis: int) -> str:
        return graph.add(
            "Gather", graph.add("Shape", of), graph.constant(f"axis_{axis}", _at(axis))
        )

    past, total = length("past_key_values.0.key", 2), length("attention_mask", 1)
    zero, one = graph.constant("zero", _at(0)), graph.constant("one", _at(1))
    queries = graph.add("Unsqueeze", graph.add("Range", past, total, one), graph.whole(1))
    causal = graph.add("LessOrEqual", graph.add("Range", zero, total, one), queries)
    real = graph.add("Cast", "attention_mask", to=TensorProto.BOOL)
    return graph.add("And", causal, graph.add("Unsqueeze", real, graph.whole(1, 2, 3)))


def _at(value: int) -> NDArray[Any]:
    return np.array(value, np.int64)


def _rotate(graph: _Graph, x: str, cos: str, sin: str) -> str:
    """Turn pair (j, j + D/2) by its angle."""
    left, right = graph.split("Split", [x], 2, axis=-1)
    first = graph.add("Sub", graph.add("Mul", left, cos), graph.add("Mul", right, sin))
    second = graph.add("Add", graph.add("Mul", right, cos), graph.add("Mul", left, sin))
    return graph.add("Concat", first, second, axis=-1)


def _attention(
    graph: _Graph,
    x: str,
    layer: int,
    spec: ModelSpec,
    weights: Weights,
    surroundings: tuple[str, str, str],
) -> str:
    """Grouped-query attention; a group is an axis of its own, so that no key is repeated."""
    cos, sin, allowed = surroundings
    H, K, D, name = spec.heads, spec.kv_heads, spec.head_width, f"blocks.{layer}.attention"
    qkv = _product(graph, x, f"{name}.qkv", weights)
    parts = graph.split("Split", [qkv, graph.whole(H * D, K * D, K * D)], 3, axis=-1)
    q, k, v = (
        graph.add("Reshape", part, graph.whole(0, 0, count, D))
        for part, count in zip(parts, (H, K, K), strict=True)
    )
    if spec.has_head_norm:
        q = _norm(graph, q, f"{name}.q_norm", spec, weights)
        k = _norm(graph, k, f"{name}.k_norm", spec, weights)
    q, k = _rotate(graph, q, cos, sin), _rotate(graph, k, cos, sin)
    seen = []
    for part, value in (("key", k), ("value", v)):
        fresh = graph.add("Transpose", value, perm=[0, 2, 1, 3])
        past, present = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
        seen.append(graph.add("Concat", past, fresh, name=present, axis=2))
    q = graph.add("Mul", q, graph.real(D**-0.5))
    q = graph.add("Reshape", q, graph.whole(0, 0, K, H // K, D))
    q = graph.add("Transpose", q, perm=[0, 2, 3, 1, 4])
    keys = graph.add("Transpose", seen[0], perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", q, graph.add("Unsqueeze", keys, graph.whole(2)))
    scores = graph.add("Where", allowed, scores, graph.real(_MASKED))
    shares = graph.add("Softmax", scores, axis=-1)
    y = graph.add("MatMul", shares, graph.add("Unsqueeze", seen[1], graph.whole(2)))
    y = graph.add("Transpose", y, perm=[0, 3, 1, 2, 4])
    y = graph.add("Reshape", y, graph.whole(0, 0, H * D))
    return _product(graph, y, f"{name}.out", weights)
