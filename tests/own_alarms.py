from markov_cot.alarms.alarm import Alarm, Levels, Reading, Text, number


def growing(row, context):
    """Steps with an entropy, in a row."""
    if (entropy := number(row, "policy/entropy")) is not None:
        context.memory["rows"] = rows = context.memory.get("rows", 0.0) + 1
        yield Reading("rows", "many", rows, context.levels.warn, context.levels.critical, seen={"entropy": entropy})


def alarm(warn=2, critical=3):
    return Alarm(
        name="patience",
        levels=Levels(warn=warn, critical=critical, patience=1),
        rule=growing,
        texts={"many": Text("The entropy is {entropy:.2f} nats", "It took long.", ("Lower <optim.lr>.",))},
    )


patience = alarm()
