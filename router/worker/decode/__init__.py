"""Requests decoded by what a version's signature says, once compiled; the unusual is left to MLflow."""

from router.worker.decode.compiled import CompiledDecoder, compile_decoder
from router.worker.decode.parts import Decoder, Part

__all__ = ["CompiledDecoder", "Decoder", "Part", "compile_decoder"]
