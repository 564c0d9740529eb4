"""The door to OpenVINO: imported when first needed, and with nothing sent anywhere."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@cache
def openvino() -> Any:
    """The openvino module, without its telemetry.

    Importing it would otherwise create an id in the user's home folder and report the use to its makers, without
    asking. It works without the package that does so, hence that package can't be imported in this process.

    Raises:
        ImportError: it isn't installed, as on other processors than x86.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's way to say "not there"
    import openvino
    import openvino.passes

    return openvino


def read_traced(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """A module as a graph, by tracing it on an example, with none of the rewriting that would fold weights together."""
    openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
    reader = FrontEndManager().load_by_framework("pytorch")
    return reader.convert(reader.load(decoder))
