"""QOperator networks as QDQ ones: integer operators with scales become float ones between Q and DQ.

QLinearConv and its like are defined as dequantize, compute, quantize; written out so, an already
quantized network has one form for the import. Dynamic quantization is refused by name: its scales
depend on each input.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto, helper

from ref.errors import UserError

#: Operators whose scales are computed from the data.
DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
           "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger")
#: onnxruntime's own domain.
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Form:
    """How an operator is called: positions of its operands, each with scale and zero point.

    ``result`` is where the result's scale is, ``bias`` where a bias in the units of the first two
    operands is, ``axis`` along which the second operand's scale may differ (0 if it is transposed).
    """

    operator: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None
    axis: int = 0


FORMS = {
    "QLinearConv": _Form("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6, axis=1),
    "QGemm": _Form("Gemm", (0, 3), 7, bias=6, axis=1),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearReduceMean": _Form("ReduceMean", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3),
}


def without_qoperators(model: ModelProto) -> ModelProto:
    """The same network with every operator of `FORMS` written as DQ, float operator, Q.

    Raises `UserError` naming a node with dynamic quantization or a layout other than NCHW.
    """
    for node in model.graph.node:
        if node.op_type in DYNAMIC:
            raise UserError(f"{node.op_type} {node.name or node.output[0]!r} is dynamic "
                            "quantization, whose scales depend on each input; quantize statically "
                            "(QDQ or QOperator) or give the float network")
    if not any(node.op_type in FORMS or node.op_type == "QLinearConcat" or _is_contributed(node)
               for node in model.graph.node):
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for node in model.graph.node:
        changed.graph.node.extend(_written_out(node))
    return changed


def _is_contributed(node: NodeProto) -> bool:
    """Whether a node is onnxruntime's own spelling of a standard quantizing operator."""
    return node.domain == MICROSOFT and node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _written_out(node: NodeProto) -> list[NodeProto]:
    """The nodes that a node stands for; itself where it is none of these operators."""
    if _is_contributed(node):
        standard = NodeProto()
        standard.CopyFrom(node)
        standard.domain = ""
        return [standard]
    inputs, name = list(node.input), node.output[0]
    if node.op_type == "QLinearConcat":
        form = _Form("Concat", tuple(range(2, len(inputs), 3)), 0)
    elif node.op_type in FORMS:
        form = FORMS[node.op_type]
    else:
        return [node]
    inputs += [""] * (form.result + 2 - len(inputs))
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    axis = 0 if transposed else form.axis
    nodes, values = [], []
    for index, position in enumerate(form.operands):
        values.append(f"{name}/operand{index}")
        nodes.append(_node("DequantizeLinear", inputs[position:position + 3], values[-1],
                           axis=axis if index else 1))
    if form.bias is not None and form.bias < len(inputs) and inputs[form.bias]:
        first, second = (inputs[position + 1] for position in form.operands)
        nodes.append(_node("Mul", [first, second], f"{name}/unit"))
        nodes.append(_node("DequantizeLinear", [inputs[form.bias], f"{name}/unit"],
                           f"{name}/bias", axis=0))
        values.append(f"{name}/bias")
    quantized = bool(inputs[form.result])           # QGemm may leave its result real
    result = f"{name}/real" if quantized else name
    computed = _node(form.operator, values, result)
    computed.name = node.name
    computed.attribute.extend(_attributes(node))
    nodes.append(computed)
    if quantized:
        nodes.append(_node("QuantizeLinear", [result, *inputs[form.result:form.result + 2]], name))
    return nodes


def _node(operator: str, inputs: list[str], output: str, axis: int | None = None) -> NodeProto:
    """A node; trailing inputs that are left out are dropped."""
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    node = helper.make_node(operator, inputs, [output], name=output)
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _attributes(node: NodeProto) -> list:
    """The attributes that the float operator has too."""
    kept = []
    for attribute in node.attribute:
        if attribute.name == "channels_last":
            if attribute.i:
                raise UserError(f"{node.op_type} {node.name or node.output[0]!r} has its channels "
                                "last; export the network with channels first (NCHW)")
        elif not (node.op_type == "QLinearSoftmax" and attribute.name == "opset"):
            kept.append(attribute)
    return kept
