"""Files that a person writes: what is wrong in one is one sentence with its place and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.errors import UsageError
from edgeir.recipe import Section, find_named, names_in, parse_section, read_yaml


class Wheel(Section):
    spokes: int


class Cart(Section):
    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None


def test_a_section() -> None:
    cart = parse_section(Cart, {"name": "a", "wheels": [{"spokes": 3}]}, where="cart.yaml", what="cart")
    assert cart.wheels == (Wheel(spokes=3),)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], r"cart.yaml: a cart is a table of keys \(got list\)\."),
        ({}, r"cart.yaml: name: a key is missing\."),
        ({"name": "a", "weels": []}, r"cart.yaml: weels: unknown key 'weels'\. Did you mean 'wheels'\?"),
        ({"name": "a", "wheels": [{"spoke": 1}]}, r"wheels\.0\.spoke: unknown key 'spoke'\. Did you mean 'spokes'\?"),
        ({"name": "a", "spare": {"spoke": 1}}, r"Did you mean 'spokes'\?"),
        ({"name": "a", "spare": {"spokes": "x"}}, r"spare\.spokes: input should be a valid integer.*got 'x'"),
    ],
)
def test_mistakes(content: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_section(Cart, content, where="cart.yaml", what="cart")


def test_reading(tmp_path: Path) -> None:
    file = tmp_path / "cart.yaml"
    file.write_text("name: a\nwheels: [", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cart.yaml:2: the cart is not YAML"):
        read_yaml(file, what="cart")
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="the cart is not YAML"):
        read_yaml(file, what="cart")
    with pytest.raises(UsageError, match=r"gone.yaml: the cart cannot be read \(got No such file"):
        read_yaml(tmp_path / "gone.yaml", what="cart")


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "red.yaml").write_text("name: red", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("name: own", encoding="utf-8")
    assert names_in(shipped) == ["red"]
    assert find_named("red", shipped, what="cart") == shipped / "red.yaml"
    assert find_named("own.yaml", shipped, what="cart") == Path("own.yaml")
    with pytest.raises(UsageError, match=r"unknown cart 'rad'\. Did you mean 'red'\?"):
        find_named("rad", shipped, what="cart")
    with pytest.raises(UsageError, match=r"gone.yaml: there is no such cart file\. Or name one of: red\."):
        find_named("gone.yaml", shipped, what="cart")
