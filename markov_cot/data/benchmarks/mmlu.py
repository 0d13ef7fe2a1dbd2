"""MMLU: four-choice questions on 57 subjects (Hendrycks et al. 2021); the subject is a sub-score.

The auxiliary training set belongs to no subject and is read whole whichever subjects are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markov_cot.data.dataset import Dataset, RowContext, SplitFiles, hub_files, one
from markov_cot.data.fields import RowError, as_object, choice_letter, choice_texts, clean_text, shown, text, texts
from markov_cot.data.folders import tables_in
from markov_cot.data.hub import Hub
from markov_cot.data.problem import Problem
from markov_cot.data.reading import csv_rows
from markov_cot.data.splits import Role
from markov_cot.grading.kinds import LABELS

AUXILIARY = "auxiliary_train"
_FOLDERS: dict[str, Role] = {AUXILIARY: "train", "dev": "dev", "val": "validation", "test": "test"}
_SUBJECTS = """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
    college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
    econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
    high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
    high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
    human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
    medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
    professional_accounting professional_law professional_medicine professional_psychology public_relations
    security_studies sociology us_foreign_policy virology world_religions
"""
SUBJECTS = tuple(_SUBJECTS.split())


def from_original(row: Any, place: RowContext) -> Problem:
    """Six columns: the question, four choices, the answer's letter. The subject is in the file's name."""
    if len(row) != 6:
        raise RowError(f"expected 6 columns (question, 4 choices, answer), got {len(row)}")
    question, *options, letter = row
    subject = "" if place.split == AUXILIARY else subject_of(place.file, place.split)
    return Problem(
        id=f"{subject or place.file.split('.')[0]}-{place.id}",
        question=clean_text(question, "question"),
        answer=choice_letter(clean_text(letter, "answer"), LABELS[:4], "answer"),
        kind="choice",
        choices=choice_texts(options, "choices"),
        subject=subject,
    )


def from_hub(row: Any, place: RowContext) -> Sequence[Problem]:
    """`subject`, `choices` and `answer`, the right choice's position from 0. Nothing for subjects not chosen."""
    row = as_object(row)
    if set(row) == {"train"}:  # as the hub's file of the auxiliary training set alone has them
        row = as_object(row["train"])
    subject = "" if place.split == AUXILIARY else text(row, "subject")
    if subject and place.subsets and subject not in place.subsets:
        return ()
    choices = choice_texts(texts(row, "choices"), "choices")
    position = row.get("answer")
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < len(choices):
        raise RowError(f"answer {shown(position)} is not the position of a choice, 0 to {len(choices) - 1}")
    question = text(row, "question")
    name = f"{subject or AUXILIARY}-{place.id}"
    return (Problem(name, question, LABELS[position], "choice", choices, subject=subject),)


def subject_of(file: str, split: str) -> str:
    """ "anatomy" for "anatomy_val.csv" of split "val"."""
    return file.removesuffix(".gz").removesuffix(".csv").removesuffix(f"_{split}")


def _files(folder: Path, subsets: tuple[str, ...]) -> list[SplitFiles]:
    found = []
    for label, role in _FOLDERS.items():
        paths = sorted([*(folder / label).glob("*.csv"), *(folder / label).glob("*.csv.gz")])
        if subsets and label != AUXILIARY:
            paths = [path for path in paths if subject_of(path.name, label) in subsets]
        if paths:
            found.append(SplitFiles(label, role, tuple(paths)))
    return found


def _hub_files(folder: Path, hub: Hub, subsets: tuple[str, ...]) -> tuple[Path, list[SplitFiles]] | None:
    """The hub has all subjects together, and each in a folder of its own. There the auxiliary set is called train."""
    if together := hub_files(folder, hub, SUBJECTS):
        return together
    paths: dict[str, list[Path]] = {label: [] for label in hub.splits}
    for subject in subsets or SUBJECTS:
        for label, files in tables_in(folder / subject, hub.splits).items():
            if label in paths:
                paths[label] += files
    paths[AUXILIARY] += tables_in(folder / AUXILIARY, ("train",)).get("train", ())
    found = [SplitFiles(label, hub.splits[label], tuple(files), True) for label, files in paths.items() if files]
    return (folder, found) if found else hub_files(folder, hub, ())


MMLU = Dataset(
    name="mmlu",
    kind="choice",
    folder="mmlu",
    files=_files,
    hub=lambda subsets: Hub(
        ("cais/mmlu",), "all", {AUXILIARY: "train", "dev": "dev", "validation": "validation", "test": "test"}
    ),
    original=one(from_original),
    hub_form=from_hub,
    file_rows=csv_rows,
    hub_files=_hub_files,
    subsets=SUBJECTS,
    several_subsets=True,
)
