"""The operator's file of products: read as it is meant, and each fault told by its place and what mends it."""

import re
import tomllib
from pathlib import Path

import pytest

from core.configuration import HostedProvider
from core.entities import QuotaUnit
from core.hosted import hosted_of
from core.offers import offers_of
from core.operator_files import OperatorFile
from core.settings import SettingsError
from tests.catalogs import CATALOG

HOSTED = {"gemini": HostedProvider(name="gemini")}
PACK = """[products.pack]
name = "Pack"
unit = "CREDITS"
quota_amount = 100
price = 1500
currency = "EUR"
"""


def file(text: str) -> OperatorFile:
    return OperatorFile(path=Path("/etc/modelyard/products.toml"), tables=tomllib.loads(text))


def test_a_product_is_for_every_hosted_provider_or_for_one_by_any_of_its_names() -> None:
    shared, own = offers_of(file(PACK + PACK.replace("pack", "own") + 'provider = "google"'), CATALOG, HOSTED)

    assert (shared.key, shared.provider, own.key, own.provider) == ("pack", None, "own", "gemini")
    product = shared.applied(None)
    assert (product.quota_amount, product.unit, product.price, product.currency) == (
        100,
        QuotaUnit.CREDITS,
        1500,
        "EUR",
    )
    assert shared.applied(product) == product


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PACK.replace("1500", "-1500"), "products.pack.price: expected `int` >= 1"),
        (PACK.replace("1500", "15.5"), "products.pack.price: expected `int`, got `float`"),
        (PACK.replace("100", str(2**53)), "products.pack.quota_amount: expected `int` <= 9007199254740991"),
        (PACK.replace("EUR", "euro"), "products.pack.currency: 'euro' is no ISO 4217 code"),
        (PACK.replace("CREDITS", "COINS"), "products.pack.unit: invalid enum value 'COINS'"),
        (PACK.replace('name = "Pack"', ""), "products.pack: object missing required field `name`"),
        (PACK + "colour = 1", "products.pack: object contains unknown field `colour`"),
        (PACK + 'provider = "nobody"', "products.pack.provider: there is no provider 'nobody'"),
        (PACK + 'provider = "openai"', "products.pack.provider: openai is not hosted here"),
        (PACK.replace("pack", '"a b"'), "products.a b: a product's key has"),
        (PACK.replace("products", "product"), "product: there is no such key; entries are [products.NAME]"),
        ("products = 3", "products: entries are tables, [products.NAME]"),
    ],
)
def test_a_wrong_file_is_told_by_file_and_place(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as told:
        offers_of(file(text), CATALOG, HOSTED)

    assert str(told.value).startswith("MODELYARD_PRODUCTS (/etc/modelyard/products.toml): ")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_the_files_that_the_readme_shows_are_right() -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text("utf-8")
    hosted, products = (tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL))
    for entry in hosted["providers"].values():
        entry["values"] = {field: value.removeprefix("env:") for field, value in entry["values"].items()}

    found = hosted_of(OperatorFile(path=Path("hosted.toml"), tables=hosted), CATALOG, str)
    offers = offers_of(OperatorFile(path=Path("products.toml"), tables=products), CATALOG, found)

    assert [key.name for key in found["openai_compatible"].models or ()] == ["our-model"]
    assert [(offer.key, offer.provider) for offer in offers] == [("starter", None), ("words", "openai")]
