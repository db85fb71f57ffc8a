"""Variables of the environment that a version asks for and does not get, named for the operator."""

import os
import re
from collections.abc import Iterable, Sequence

from mlflow.models import Model

from router.core.environment_variables import is_withheld, refusal
from router.worker.error_chain import chain

_MOST_NAMES = 5
_NAME_IN_TEXT = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_ENVIRON_CODE = os.environ.__class__.__getitem__.__code__


def asked_of_environment(error: BaseException | None) -> list[str]:
    """Names that `os.environ` did not have, for which `error`, or what it was raised from, was raised.

    Of a KeyError with a caller's value in it, none: what counts is that `os.environ` itself raised it.
    """
    names = []
    for one in chain(error):
        trace = one.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        from_environ = trace is not None and trace.tb_frame.f_code is _ENVIRON_CODE
        if isinstance(one, KeyError) and from_environ and one.args and isinstance(one.args[0], str):
            names.append(one.args[0])
    return names


def named_by(error: BaseException | None) -> list[str]:
    """As `asked_of_environment`, and what else the texts of `error` name as variables are named.

    For an error that holds no caller's text, such as one of a load.
    """
    texts = " ".join(str(one) for one in chain(error))
    return [*asked_of_environment(error), *_NAME_IN_TEXT.findall(texts)]


def listed_in(directory: str) -> list[str]:
    """Variables that the version in `directory` used when it was logged, as its MLmodel says."""
    try:
        return list(Model.load(directory).env_vars or ())
    except Exception:  # noqa: BLE001 - an MLmodel that can not be read has failed the load already
        return []


def remedy(names: Iterable[str], listed: Sequence[str]) -> str:
    """Sentences for the operator about those of `names` that are withheld; empty when none is.

    `listed`: what the settings of the version's model list as `environment_variables`.
    """
    missing = [name for name in dict.fromkeys(names) if is_withheld(name) and name not in os.environ]
    refused = {name: why for name in missing if (why := refusal(name))}
    unset = [name for name in missing if name in listed]
    others = [name for name in missing if name not in refused and name not in unset]
    sentences = [f"{name} is withheld from versions: it {why}" for name, why in refused.items()]
    if unset:
        sentences.append(
            f"{_and(unset)} is listed under `environment_variables`, and not set for the gateway"
        )
    if others:
        sentences.append(
            f"{_and(others)} is withheld from versions, unless it is listed under `environment_variables` of"
            " their registered model"
        )
    return "; ".join(sentences)


def _and(names: Sequence[str]) -> str:
    shown = names[:_MOST_NAMES]
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return " and ".join([*shown, *more])
