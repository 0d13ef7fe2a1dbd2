"""The default extractors against a careful grader: each row is (response, gold, whether it is right, why).

The kinds are those that models' answers come in: reasoning in tags, corrections, rulings out, hedges, refusals, other
scripts and words, and ordinary answers that must not be mistaken for one of these.
"""

from __future__ import annotations

import pytest

from markov_cot.grading.extractors import PRIMARY, grade
from markov_cot.grading.golds import form_for
from markov_cot.grading.graders import gold_text

Case = tuple[str, str, bool, str]

REASONING: list[Case] = [
    ("<think>The answer is 5.</think>The answer is 6.", "6", True, "after the block"),
    ("<think>The answer is 5.</think>6", "5", False, "not inside it"),
    ("<thinking>\n12 + 3 = 15?\n</thinking>\n14", "14", True, "thinking"),
    ("<reasoning>answer: 3</reasoning> It takes 4 days.", "4", True, "reasoning"),
    ("<|begin_of_thought|>The answer is 3<|end_of_thought|> So 8 it is.", "8", True, "markers of thought"),
    ("[THINK]maybe the answer is 3[/THINK]9", "9", True, "square brackets"),
    ("◁think▷the answer is 3◁/think▷ 9", "9", True, "other brackets"),
    ("The answer is 3? Let me see.</think>\n\n12", "12", True, "the prompt opened the block"),
    ("<think>a <think>b</think> The answer is 4.</think> 5", "5", True, "a block in a block"),
    ("<think>The answer is 5.", "5", False, "a block that never ends"),
    ("<think>The answer is 5.</think>", "5", False, "nothing after the block"),
    (
        "<|channel|>analysis<|message|>5<|end|><|start|>assistant<|channel|>final<|message|>7",
        "7",
        True,
        "channels",
    ),
    ("<|channel|>analysis<|message|>It is 5", "5", False, "no final channel"),
    ("<scratchpad>17 or 18</scratchpad><answer>18</answer>", "18", True, "a scratchpad, then a tag"),
    ("<THINK>It is 4.</THINK>\n**Answer:** 5", "5", True, "upper case"),
    ("If x < 5 and y > 3 then the answer is 4", "4", True, "comparisons are no tags"),
]
CORRECTIONS: list[Case] = [
    ("It is 5. No, wait: 8.", "8", True, "at once"),
    ("It is 5. No, wait: 8.", "5", False, "the first is taken back"),
    ("The answer is 12. Hold on, I counted twice. It should be 11.", "11", True, "should be"),
    ("The answer is 12. Hmm, actually 3 * 5 = 15.", "15", True, "an equation"),
    ("Answer: 30. Correction: 32.", "32", True, "correction"),
    ("The answer is 20. Oops, I forgot to halve it. So it's 10.", "10", True, "oops"),
    ("The answer is 20. Sorry, I meant 25.", "25", True, "I meant"),
    ("The answer is 20. I made a mistake. The total is 22 dollars.", "22", True, "a mistake"),
    ("The answer is 9. Wait, that is incorrect.", "9", False, "taken back, and nothing instead"),
    ("The answer is 9. Scratch that.", "9", False, "likewise"),
    ("The answer is 9. Wait, let me double-check. Yes, it is right.", "9", True, "a doubt that is settled"),
    ("The answer is 18. Let me verify: 9 * 2 = 18. Correct.", "18", True, "a check"),
    ("The answer is 18. Let me verify: 18 / 2 = 9. Correct.", "18", True, "a check that ends in another number"),
    ("The answer is 7. Actually, I enjoyed this; it had 3 steps.", "7", True, "chatter is no correction"),
    ("First I thought it was 4. Actually it is 6.", "6", True, "without labels"),
    ("Is the answer 5? No, it is 7.", "7", True, "a question answered"),
    ("5 + 2 = 7. Wait, I forgot 3 more. It is 10.", "10", True, "after an equation"),
    ("The answer is 5. Wait, no, the answer is 6. Wait, actually the answer is 7.", "7", True, "twice"),
    ("She cannot wait 5 more days. The answer is 3.", "3", True, "the verb"),
    ("There are no oranges, so 4 apples are left.", "4", True, "the determiner"),
]
RULED_OUT: list[Case] = [
    ("It is 7, not 5.", "7", True, "not"),
    ("It is 7, not 5.", "5", False, "what is ruled out is no answer"),
    ("The answer isn't 5. It is 7.", "7", True, "isn't"),
    ("The answer is not 5, it is 7.", "7", True, "not, then is"),
    ("The answer is 7 rather than 5.", "7", True, "rather than"),
    ("Use 7 instead of 5", "7", True, "instead of"),
    ("5 is wrong; 7 is right", "7", True, "is wrong"),
    ("12 is too many, so 11", "11", True, "too many"),
    ("The answer is not 5.", "5", False, "nothing is left"),
    ("He has 7 and not 5 apples", "7", True, "and not"),
    ("not five but seven", "7", True, "in words"),
    ("He could not sell 5 of the 12, so the answer is 7", "7", True, "a negated verb"),
]
HEDGES: list[Case] = [
    ("5 or 6", "6", False, "either"),
    ("It's either 3 or 4.", "4", False, "either ... or"),
    ("The answer is 10-12.", "10", False, "a range"),
    ("The answer is 10–12 minutes", "12", False, "with a dash"),
    ("It takes 10 to 12 minutes.", "12", False, "with to"),
    ("between 5 and 6", "6", False, "between"),
    ("Somewhere from 20 to 30", "30", False, "from ... to"),
    ("Maybe 5, maybe 6", "6", False, "maybe twice"),
    ("The answer is 5 dollars or 6 dollars.", "5", False, "with units"),
    ("x = 5 or x = -5", "-5", False, "two solutions"),
    ("x = ±5", "5", False, "two signs"),
    ("Answer: 2, 3", "2", False, "a list"),
    ("The answer is more than 5.", "5", False, "a bound"),
    ("five or six", "5", False, "in words"),
    ("The answer is 1/2 or 0.5.", "0.5", True, "the same twice"),
    ("The answer is 3/4, or 75%.", "0.75", True, "the same as per cent"),
    ("The answer is 120 minutes, or 2 hours.", "120", True, "the same in other units"),
    ("The price rose from 10 to 12.", "12", True, "a change"),
    ("11.6 rounds to 12", "12", True, "rounding"),
    ("It comes to 12.", "12", True, "comes to"),
    ("There could be 5 or 6 in a box; the answer is 30.", "30", True, "a hedge elsewhere"),
    ("The answer is 5 or more precisely 5.", "5", True, "or more precisely"),
    ("Buy 3 packs, or more if you like", "3", True, "or without a number"),
    ("2 and 3 make 5", "5", True, "and"),
    ("5 - 3", "2", False, "a difference is not worked out"),
    ("I think the answer is 7", "7", True, "modesty is no hedge"),
    ("It is probably about 7.", "7", True, "nor is this"),
]
REFUSALS: list[Case] = [
    ("I don't know, the 5 apples have no price.", "5", False, "does not know"),
    ("It cannot be determined from the 2 facts given.", "2", False, "cannot be determined"),
    ("It is impossible to say; maybe she has 3.", "3", False, "impossible to say"),
    ("Insufficient information: 4 is given, the rest is not.", "4", False, "insufficient"),
    ("We need more information than the 12 eggs.", "12", False, "needs more"),
    ("The equation 2x = 2x + 5 has no solution.", "5", False, "no solution"),
    (
        "It cannot be found without 3x = 12, so x = 4. The answer is 4.",
        "4",
        True,
        "then answered",
    ),
    ("I do not know the rate yet, but 6 / 2 = 3.", "3", True, "not yet"),
    ("There is enough information: 3 + 4 = 7", "7", True, "enough"),
    ("She can't buy 5; the answer is 4.", "4", True, "can't buy"),
]
WRITTEN: list[Case] = [
    ("The answer is twenty-one.", "21", True, "a word with a hyphen"),
    ("Twenty one apples", "21", True, "without"),
    ("a hundred", "100", True, "a hundred"),
    ("The answer is one hundred.", "100", True, "one hundred"),
    ("One hundred and five", "105", True, "beyond a hundred"),
    ("The answer is two hundred.", "2", False, "not its first word"),
    ("zero", "0", True, "zero"),
    ("The answer is minus four.", "-4", True, "a sign in words"),
    ("The answer is one.", "1", True, "one"),
    ("One of them left.", "1", False, "a pronoun"),
    ("two and a half", "2.5", True, "and a half"),
    ("two and a half", "2", False, "not without it"),
    ("The answer is two thirds.", "2", False, "a fraction in words is not read"),
    ("3 and 1/2 hours", "3.5", True, "a mixed number"),
    ("The answer is eighteen (18).", "18", True, "word and number"),
    ("She has 3 for the two of them.", "3", True, "digits before words"),
    ("उत्तर ४२ है", "42", True, "Devanagari"),
    ("الجواب ٤٢", "42", True, "Arabic-Indic"),
    ("Ответ: 12", "12", True, "Cyrillic words"),
    ("答案：３／４", "0.75", True, "full-width fraction"),
    ("Ａｎｓｗｅｒ： ７０，０００", "70000", True, "full-width label and thousands"),
    ("the answer is 𝟒𝟐", "42", True, "bold digits"),
    ("Répondre: 1 234", "1234", False, "spaced thousands are not told from two numbers"),
    ("The answer is 3,5.", "3.5", False, "a decimal comma"),
    ("The answer is 3,5.", "3", False, "nor its whole part"),
    ("The answer is 1.234,56.", "1.234", False, "European thousands"),
    ("The answer is 1'234.", "1", False, "Swiss thousands"),
    ("The answer is 1_234.", "1", False, "underscores"),
    ("The answer is 12 345 km.", "12", False, "spaces"),
    ("The answer is 12 345 km.", "345", False, "from either end"),
    ("The answer is 3,5.", "3,5", True, "the gold has a decimal comma"),
    ("The answer is 1.234,5.", "1234,5", True, "and so has a longer one"),
    ("The answer is 1'234.", "1'234", True, "the gold has apostrophes"),
    ("The answer is 12 345 km.", "12 345", True, "the gold has spaces"),
    ("The answer is 1_234.", "1_234", True, "the gold has underscores"),
    ("The answer is 1.234.", "1.234", True, "one point is a decimal point"),
    ("The answer is 1,234.", "1234", True, "one comma before three digits is English"),
    ("Add 1,5 and 2. The answer is 4.", "4", True, "a comma elsewhere"),
]
RUNS_ON: list[Case] = [
    ("18\n\nQuestion: Tom has 3 pens. How many?\nAnswer: 3", "18", True, "a new question"),
    ("18\n\nQuestion: Tom has 3 pens. How many?\nAnswer: 3", "3", False, "whose answer is not ours"),
    ("The answer is 18.\n\nQ: What is 2 + 2?\nA: 4", "18", True, "Q and A"),
    ("#### 18\n### Problem 2:\nAnswer: 9", "18", True, "a heading"),
    ("18. Question: How old is he? The answer is 40.", "18", True, "on the same line"),
    ("Question: What is 2 + 2?\nAnswer: 4", "4", True, "the question repeated first"),
    ("Let me repeat it.\nQuestion: What is 2 + 2?\nAnswer: 4", "4", True, "nothing answered before"),
    ("18<|im_end|>\n<|im_start|>user\nWhat about 20?", "18", True, "the turn has ended"),
    ("18</s>21", "18", True, "so has the text"),
    ("eighteen\n\nQuestion: 2 + 2?\nAnswer: 4", "18", True, "a word, and a new question"),
]
PLAIN: list[Case] = [
    ("5 boxes are needed for the 30 pens.", "5", True, "what it is about comes first"),
    ("So 8 eggs were left for the 3 of them.", "8", True, "with so"),
    ("She needs 5 boxes for 30 pens.", "5", True, "somebody needs"),
    ("It costs $18 for 2 people.", "18", True, "it costs"),
    ("30 pens need 5 boxes.", "5", True, "the object"),
    ("The 3 friends paid for 12 tickets.", "12", True, "an object with a preposition"),
    ("30 / 6 = 5, and one spare. So you need **6 boxes** in all.", "6", True, "bold"),
    ("**Step 1:** 3 + 4 = 7\n**Step 2:** 7 * 2 = 14", "14", True, "bold headings"),
    ("**5** + **6** = 11", "11", True, "bold summands"),
    ("The answer is **$1,250.50**", "1250.5", True, "bold, currency, thousands"),
    ("Answer: 5 km/h", "5", True, "a unit with a slash"),
    ("He was born in 1990, so the answer is 34 years.", "34", True, "a year before"),
    ("The answer is -3 or so.", "-3", True, "or so"),
    ("\\boxed{7} because 7 < 10", "7", True, "a box"),
    ("The ratio is 1/4 = 0.25", "0.25", True, "fraction and decimal"),
    ("Answer: 3.", "3.0", True, "a full stop"),
    ("no answer", "0", False, "nothing"),
]
NUMERIC = {
    "reasoning": REASONING,
    "corrections": CORRECTIONS,
    "ruled out": RULED_OUT,
    "hedges": HEDGES,
    "refusals": REFUSALS,
    "written": WRITTEN,
    "runs on": RUNS_ON,
    "plain": PLAIN,
}
BY_KIND = [(kind, *case) for kind, cases in NUMERIC.items() for case in cases]


@pytest.mark.parametrize(
    ("kind", "response", "gold", "right", "why"), BY_KIND, ids=[f"{i} {c[0]}: {c[4]}" for i, c in enumerate(BY_KIND)]
)
def test_numbers(kind: str, response: str, gold: str, right: bool, why: str) -> None:
    form = form_for(gold, None)
    predicted, correct = grade(PRIMARY["numeric"], response, gold_text(gold, "numeric", form=form), form=form)
    assert correct is right, (predicted, why)


CELL = ("photosynthesis", "respiration", "osmosis", "diffusion")
NUMBERS = ("12", "15", "18", "21")
SENTENCES = ("the Sun heats the air", "the Moon pulls the water", "wind", "it cannot be determined")
ChoiceCase = tuple[str, tuple[str, ...], str | None, str]
CHOICES: list[ChoiceCase] = [
    ("<think>The answer is A.</think> B", NUMBERS, "B", "after the block"),
    ("<think>The answer is A.</think>\nFinal answer: (C)", NUMBERS, "C", "under a label"),
    ("<think>The answer is A.", NUMBERS, None, "a block that never ends"),
    ("The answer is A?</think> D", NUMBERS, "D", "the prompt opened the block"),
    ("<reasoning>B is best</reasoning><answer>C</answer>", NUMBERS, "C", "in tags"),
    ("So **B**", NUMBERS, "B", "bold"),
    ("So *B* it is", NUMBERS, "B", "italic"),
    ("A * B = 12", NUMBERS, "A", "variables, but the option is written"),
    ("The answer is A. Wait, the answer is B.", NUMBERS, "B", "two labels"),
    ("Answer: A. No, B.", NUMBERS, "B", "no"),
    ("Answer: C. Hold on, it should be D.", NUMBERS, "D", "should be"),
    ("The answer is C. Sorry, I meant A.", NUMBERS, "A", "meant"),
    ("The answer is B. Actually, A and C are close too.", NUMBERS, "B", "others mentioned"),
    ("The answer is B. Wait, let me check A. Yes, B is right.", NUMBERS, "B", "a check"),
    ("The answer is B. That's wrong.", NUMBERS, None, "taken back"),
    ("Perhaps A. No, that's wrong: D.", NUMBERS, "D", "without labels"),
    ("The answer is B or C.", NUMBERS, None, "two"),
    ("B, or maybe C", NUMBERS, None, "or maybe"),
    ("Either A or D", NUMBERS, None, "either"),
    ("I cannot determine whether it is B.", NUMBERS, None, "a letter in a refusal"),
    ("I cannot prove it, but C fits.", NUMBERS, "C", "no refusal"),
    ("We can't know for sure, but C fits.", NUMBERS, "C", "a letter after a refusal"),
    ("B looks good but I don't know.", NUMBERS, None, "a letter before a refusal"),
    ("Not A, not B, so D", NUMBERS, "D", "ruled out"),
    ("The answer is not A. It is C.", NUMBERS, "C", "a label negated"),
    ("osmosis", CELL, "C", "the text alone"),
    ("Answer: Osmosis.", CELL, "C", "under a label"),
    ("The process is called diffusion.", CELL, "D", "in a sentence"),
    ("It is respiration, not photosynthesis.", CELL, "B", "the other ruled out"),
    ("It isn't diffusion; it's osmosis.", CELL, "C", "isn't"),
    ("Rather than diffusion, this is osmosis", CELL, "C", "rather than"),
    ("It is osmosis. Wait, no, diffusion.", CELL, "D", "a correction"),
    ("osmosis or diffusion", CELL, None, "two texts"),
    ("photosynthesis, respiration, osmosis, diffusion", CELL, None, "all of them"),
    ("There is not enough information about osmosis.", CELL, None, "a text in a refusal"),
    ("<think>diffusion</think> It is osmosis.", CELL, "C", "a text after reasoning"),
    ("It is evaporation.", CELL, None, "none of the texts"),
    ("B: osmosis", CELL, "B", "a letter goes before a text"),
    ("E, osmosis", CELL, None, "even one that is no choice"),
    ("B or C: osmosis", CELL, None, "and two letters leave it open"),
    ("A) 12 B) 15 C) 18 D) 21\nIt is 15", NUMBERS, "B", "options repeated, then one"),
    ("A) 12 B) 15 C) 18 D) 21", NUMBERS, None, "options repeated, and nothing"),
    ("The total is 18.", NUMBERS, "C", "a number for an option"),
    ("It is 180.", NUMBERS, None, "no part of a number"),
    ("12 + 3 = 15", NUMBERS, None, "two of the numbers"),
    ("It cannot be determined.", SENTENCES, "D", "an option that sounds like a refusal"),
    ("The Moon pulls the water", SENTENCES, "B", "a sentence"),
    ("Ｃ", NUMBERS, "C", "full-width"),
    ("答案：（Ｂ）", NUMBERS, "B", "full-width brackets"),
    ("Б", NUMBERS, None, "a Cyrillic letter"),
    ("B\n\nQuestion: What else?\nAnswer: D", NUMBERS, "B", "a new question"),
    ("osmosis\n\nQuestion: And then?\nAnswer: A", CELL, "C", "after a text"),
    ("Question: What is it?\nAnswer: D", NUMBERS, "D", "the question repeated first"),
    ("B<|im_end|>\n<|im_start|>user D", NUMBERS, "B", "the turn has ended"),
]


@pytest.mark.parametrize(
    ("response", "choices", "expected", "why"), CHOICES, ids=[f"{i} {case[3]}" for i, case in enumerate(CHOICES)]
)
def test_choices(response: str, choices: tuple[str, ...], expected: str | None, why: str) -> None:
    predicted, right = grade(PRIMARY["choice"], response, expected or "A", choices)
    assert (predicted, right) == (expected, expected is not None), why


def test_the_tables_are_large_enough() -> None:
    wrong = [case for case in BY_KIND if not case[3]]
    assert len({case[1:3] for case in BY_KIND}) + len({case[0] for case in CHOICES}) >= 190
    assert len(wrong) >= 40
