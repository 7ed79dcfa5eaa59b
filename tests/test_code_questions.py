"""Rule-made questions about source code: which definitions are asked about, what stands in the passage."""

import random
from pathlib import Path

import pytest

from artrag.training.code_questions import code_pairs, definitions, first_sentence, question, source_files

PYTHON = '''"""A module."""


class Basket:
    """Holds the fruit that a customer wants to buy."""

    def weigh(self) -> float:
        """Returns the weight of all fruit in kilograms.

        More words.
        """
        return sum(self.fruit.values()) / 1000

    def __len__(self) -> int:
        """Return how many pieces of fruit there are."""
        return 3

    def bare(self):
        return None
'''
JAVA = """package shop;

/**
 * Counts how many <b>customers</b> came in today.
 *
 * @param day the day
 */
@Deprecated
public int countCustomers(Day day) {
    return day.visits().size();
}
"""
RUST = """/// Closes the shop and locks all of its doors.
#[inline]
pub fn close_shop(&mut self) -> Result<()> {
    self.doors.lock()
}
"""


def test_python_definitions_are_found_by_syntax() -> None:
    found = list(definitions(PYTHON, "shop/basket.py"))
    assert [(one.name, one.kind, one.says) for one in found] == [
        ("Basket", "class", "Holds the fruit that a customer wants to buy"),
        ("weigh", "function", "Returns the weight of all fruit in kilograms"),
    ]
    assert PYTHON[found[1].start : found[1].at].strip().endswith('"""')
    assert list(definitions("def broken(:\n", "a.py")) == []


def test_other_languages_are_found_by_their_comments() -> None:
    (java,) = definitions(JAVA, "Shop.java")
    assert (java.name, java.kind, java.says) == ("countCustomers", "method", "Counts how many customers came in today")
    assert JAVA[java.at :].startswith("public int countCustomers")
    (rust,) = definitions(RUST, "shop.rs")
    assert (rust.name, rust.says) == ("close_shop", "Closes the shop and locks all of its doors")


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("Opens the door of the shop. Then closes it.", "Opens the door of the shop"),
        ("Opens `the` {@code door} of the shop", "Opens the door of the shop"),
        ("Too short.", ""),
        ("x = y + z; a[1] = b[2] * c3d4", ""),
        ("Opens " + "the very big door " * 12, ""),
    ],
)
def test_only_prose_of_a_fair_length_is_asked_about(comment: str, says: str) -> None:
    assert first_sentence(comment) == says


def test_questions_ask_by_name_or_by_what_it_does() -> None:
    (java,) = definitions(JAVA, "Shop.java")
    asked = {question(java, random.Random(seed)) for seed in range(200)}
    named = {words for words, by_name in asked if by_name}
    described = {words for words, by_name in asked if not by_name}
    assert named and all("countCustomers" in words for words in named)
    assert "How can I count how many customers came in today?" in described
    assert not any("countCustomers" in words for words in described)


def test_the_comment_is_mostly_taken_out_where_it_is_the_question() -> None:
    with_comment = 0
    described = 0
    for seed in range(120):
        for row in code_pairs([("shop", "Shop.java", JAVA)], seed=seed):
            assert row["group"] == "shop" and row["source"] == "shop/Shop.java"
            assert row["passage"].startswith("Shop.java") and "day.visits().size()" in row["passage"]
            if "countCustomers" not in row["question"]:
                described += 1
                with_comment += "/**" in row["passage"]
            else:
                assert "/**" in row["passage"]
    assert described > 30 and 0.1 < with_comment / described < 0.6


def test_a_file_gives_so_many_questions_and_the_same_each_time() -> None:
    assert len(list(code_pairs([("shop", "basket.py", PYTHON)], most=1))) == 1
    twice = [list(code_pairs([("shop", "basket.py", PYTHON)], seed=4)) for _ in range(2)]
    assert twice[0] == twice[1] and len(twice[0]) == 2


def test_source_files_leave_out_what_was_taken_over(tmp_path: Path) -> None:
    for name in (
        "shop/a.py",
        "shop/_vendor/b.py",
        "shop/c.txt",
        "bank/src/d.rs",
        "bank/third_party/e.rs",
        "loose.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    (tmp_path / "shop/latin.py").write_bytes(b"\xe9\xff")
    assert [found[:2] for found in source_files(tmp_path)] == [("bank", "src/d.rs"), ("shop", "a.py")]
