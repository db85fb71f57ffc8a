"""Frames of CSV bodies as clients write them, and as nobody should."""

import random

from mlflow.types import ColSpec, DataType, Schema

from tests.worker.requests_to_decode import SCHEMAS

CSV = "text/csv"
_NAMED = ("text", "number", "linear", "mixed", "long", "narrow")
CSV_SCHEMAS: dict[str, Schema] = {
    **{name: schema for name, schema in SCHEMAS.items() if schema is not None and name in _NAMED},
    "flag": Schema([ColSpec("boolean", "b")]),
    "two": Schema([ColSpec("string", "s"), ColSpec("double", "d")]),
    "bytes": Schema([ColSpec("binary", "a"), ColSpec("boolean", "Unnamed: 1"), ColSpec("float", "1")]),
}
"""Signatures that give every column a name and a type."""
TEXTS = ["good", "bad one", "x", "ü", "日本", '"a, b"', '"he said ""no"""', "3", "1.5", "True", "a'b;c#d"]
PLAIN: dict[DataType, list[str]] = {
    DataType.string: TEXTS,
    DataType.binary: TEXTS,
    DataType.boolean: ["True", "False", "true", "FALSE"],
    DataType.integer: ["0", "1", "-1", "1763650000", "-2099999999", "-0", "007"],
    DataType.long: ["0", "1", "-1", "9007199254740993", "999999999999999999", "-999999999999999999"],
    DataType.float: ["0.1", "1", "-2.5", "1e-5", "16777217", "0.30000001192092896", "nan", "inf"],
    DataType.double: ["0.1", "1", "-2.5", "3.141592653589793", "1e-5", "9007199254740993", "nan", "-inf"],
}
HOSTILE = [
    *(
        "",
        " ",
        "  ",
        "\t",
        " 5",
        "5 ",
        "+5",
        "-",
        "--5",
        ".5",
        "5.",
        "-.5",
        "5e",
        "e5",
        "5e+",
        "0x10",
        "1_000",
    ),
    *("nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None", "<NA>", "#N/A", "-nan", "-1.#IND"),
    *("inf", "-inf", "+inf", "Inf", "Infinity", "INF", "True", "False", "tRUE", "TRUE", "yes", "t", "0", "1"),
    *("1.0", "0.0", "-0.0", "1.5", "2", "1e5", "1E-5", "1e99", "1e100", "1e308", "1e309", "1e999", "1e-999"),
    *("2147483648", "-2147483649", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616"),
    *("9" * 18, "9" * 19, "9" * 25, "9" * 26, "9" * 400, "0" * 30 + "1", "9" * 25 + "e99", "1." + "3" * 26),
    *("0.1234567890123456789", "2.2250738585072014e-308", "5e-324", "1.7976931348623157e308", "1e-400"),
    *('"', '""', '"a"', '"a', 'a"', 'a"b', '"a"b', '"a" ', ' "a"', '"a,b"', '"a""b"', '"""', '"1"', '"1,5"'),
    *("a,b", ",", "a\0b", "\0", "é", "\ufeff", "\ufeff1", "\u2028", "\x0b", "\x0c", "\x1c", "\x85", "\xa0"),
    *("١", "1１", "a\rb", "\r", '"a\nb"', '"a\r\nb"', "2026-01-02", "#x", "\\", "\\n", "1;2", "1 000"),
]
"""Cells that pandas may read as more than one thing, that end a line or a cell, or nearly."""
HEADERS = [
    *(
        '"{}"',
        " {}",
        "{} ",
        "\ufeff{}",
        "{},",
        "{},x",
        "x,{}",
        ",{}",
        "{},{}",
        "\n{}",
        "{}\0",
        "{},é",
        "{},Unnamed: 0",
    ),
]


def frame(dice: random.Random, schema: Schema, *, most: int = 6) -> list[bytes]:
    """2 to `most` bodies to a version: mostly plain ones, most with the first one's header and line ends."""
    first, end = _header(dice, schema), dice.choice(["\n", "\n", "\r\n"])
    found = []
    for _ in range(dice.randint(2, most)):
        header, kinds = _header(dice, schema) if _once_in(dice, 8) else first
        found.append(_body(dice, header, kinds, "\r\n" if _once_in(dice, 8) else end))
    return found


def _once_in(dice: random.Random, times: int) -> bool:
    return dice.randrange(times) == 0


def _header(dice: random.Random, schema: Schema) -> tuple[str, list[DataType]]:
    specs = [spec for spec in schema.inputs if spec.required or _once_in(dice, 2)]
    if not _once_in(dice, 6):
        specs = [spec for spec in specs if spec.type != DataType.datetime]
    if _once_in(dice, 4):
        dice.shuffle(specs)
    names, kinds = [spec.name for spec in specs], [spec.type for spec in specs]
    if _once_in(dice, 4):
        place = dice.randint(0, len(names))
        names.insert(place, dice.choice(["", "more", "id"]))
        kinds.insert(place, dice.choice(list(PLAIN)))
    header = ",".join(names)
    if _once_in(dice, 10):
        header = dice.choice(HEADERS).format(header, header)
    return header, kinds


def _body(dice: random.Random, header: str, kinds: list[DataType], end: str) -> bytes:
    rows = 0 if _once_in(dice, 16) else dice.randint(1, 3)
    lines = [[dice.choice(PLAIN.get(kind, ["2026-01-02"])) for kind in kinds] for _ in range(rows)]
    if lines and _once_in(dice, 3):
        for _ in range(dice.randint(1, 2)):
            line = dice.choice(lines)
            line[dice.randrange(len(line))] = dice.choice(HOSTILE)
    text = [",".join(line) for line in lines]
    if text and _once_in(dice, 16):
        place = dice.randrange(len(text))
        text[place] = dice.choice([text[place] + ",", text[place][1:], "", " ", header, "," + text[place]])
    last = dice.choice(["", end * 2, "\r", end + " "]) if _once_in(dice, 4) else end
    raw = (end.join([header, *text]) + last).encode()
    return raw.replace(b"o", bytes([dice.randint(128, 255)]), 1) if _once_in(dice, 16) else raw
