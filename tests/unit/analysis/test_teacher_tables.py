"""Tables of teachers: which column is what, ties, students, and what is wrong with a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from markov_cot.analysis.teacher_outcomes import correlations, report_table
from markov_cot.analysis.teacher_tables import read_table
from markov_cot.utils.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def refused(path: Path, text: str, *outcomes: str, teacher: str | None = None, student: str | None = None) -> str:
    path.write_text(text)
    with pytest.raises(UserError) as error:
        report_table(read_table(path, teacher, student), outcomes)
    return str(error.value)


def test_one_student(path: Path) -> None:
    path.write_text("name,family,car,loss,score\na,x,1,3,10\nb,x,2,2,20\nc,y,2,1,30\n")
    table = read_table(path)
    assert (table.teacher_column, table.student_column, list(table.left_out)) == ("name", None, ["family"])
    [(outcome, found)] = report_table(table, []).items()
    assert outcome == "score" and list(found.correlations) == ["car", "loss"]
    assert found.correlations["loss"][""].rho == -1
    # Ranks 1, 2.5, 2.5 and 1, 2, 3.
    assert found.correlations["car"][""].rho == pytest.approx(1.5 / (1.5 * 2) ** 0.5, abs=1e-12)
    assert found.best == {"": "c"} and not found.between


def test_several_students(path: Path) -> None:
    path.write_text("student;who;m;ap\n" + "".join(f"{s};{t};{m};{ap}\n" for s, t, m, ap in ROWS))
    table = read_table(path)
    assert (table.teacher_column, table.student_column) == ("who", "student")
    found = report_table(table, [])["ap"]
    assert found.best == {"s": "c", "t": "b"}
    assert found.means == {"c": 2.5, "b": 2.5, "a": 1.0}, "only of teachers that every student has"
    assert found.between["s", "t"].rho == pytest.approx(0.5) and found.between["s", "t"].n == 3
    assert found.mean_rho("m") == pytest.approx((1 + found.correlations["m"]["t"].rho) / 2)


ROWS = [
    ("s", "a", 1, 1),
    ("s", "b", 2, 2),
    ("s", "c", 3, 3),
    ("t", "a", 1, 1),
    ("t", "b", 2, 3),
    ("t", "c", 3, 2),
    ("t", "d", 0, 9),
]
ROWS[-1] = ("t", "d", 0, 0)


def test_means_of_columns_are_outcomes(path: Path) -> None:
    path.write_text("teacher,m,x,y\na,1,0,9\nb,2,5,5\nc,3,1,2\n")
    found = report_table(read_table(path), ["x,y", "y"])
    assert list(found) == ["x,y", "y"]
    # Means 4.5, 5 and 1.5.
    assert found["x,y"].correlations["m"][""].rho == -0.5
    assert found["y"].correlations["x"][""].rho == pytest.approx(-0.5)


def test_outcomes_of_teachers_by_their_names(path: Path) -> None:
    path.write_text("teacher,score\nc,3\na,1\nb,2\nz,9\n")
    found = correlations(read_table(path), [], ["a", "b", "c"], {"car": [1.0, 2.0, 3.0]}, 0)
    assert found["score"]["car"].rho == 1 and found["score"]["car"].n == 3
    with pytest.raises(UserError, match="lacks teacher d"):
        correlations(read_table(path), [], ["a", "b", "d"], {}, 0)
    with pytest.raises(UserError, match="2 teachers only, and a rank correlation needs 3"):
        correlations(read_table(path), [], ["a", "b"], {}, 0)
    path.write_text("teacher,student,score\na,s,1\nb,s,2\nc,s,3\n")
    with pytest.raises(UserError, match="has outcomes of several students"):
        correlations(read_table(path), [], ["a", "b", "c"], {}, 0)


def test_bad_tables(path: Path, tmp_path: Path) -> None:
    head = "teacher,m,score\na,1,1\nb,2,2\n"
    assert "t.csv line 4: score is 'nan', not a finite number" in refused(path, head + "c,3,nan\n")
    assert "t.csv line 4: m is '', not a finite number" in refused(path, head + "c,,3\n")
    assert "t.csv line 4: a is on line 2, too" in refused(path, head + "a,3,3\n")
    assert "t.csv line 4: teacher is empty" in refused(path, head + ",3,3\n")
    assert "expected 3 cells" in refused(path, head + "c,3\n")
    assert "2 teachers only, and a rank correlation needs 3" in refused(path, head)
    assert "has no rows under a header" in refused(path, "teacher,m,score\n")
    assert "has no column of numbers" in refused(path, "teacher,m\na,x\nb,y\nc,z\n")
    assert "has one column of numbers and one student" in refused(path, "teacher,m\na,1\nb,2\nc,3\n")
    assert "has no column of teachers' names" in refused(path, "x,y\n1,2\n2,3\n3,4\n")
    assert "--outcome scor: " in refused(path, head + "c,3,3\n", "scor")
    assert "did you mean score?" in refused(path, head + "c,3,3\n", "scor")
    assert "--teacher t: " in refused(path, head, teacher="t")
    assert "--by student: " in refused(path, head, student="student")
    with pytest.raises(UserError, match=r"is not a \.csv or \.tsv file"):
        read_table(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "none.csv")
