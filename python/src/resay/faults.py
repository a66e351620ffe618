"""Trouble, typed: `delay(0.05, jitter=0.01) | drop(0.1, seed=1)`.

Times are seconds, sizes bytes, shares 0.0 to 1.0. Each function returns a `Stage`; str() of it is the chain as text, for the
command line and for bug reports.
"""

__all__ = [
    "Stage", "bandwidth", "close", "corrupt", "delay", "drop", "duplicate", "hold", "reorder", "reset", "slice", "truncate",
]

# Transforms with an option `seed`.
_SEEDED = frozenset(("corrupt", "delay", "drop", "duplicate", "reorder", "truncate"))


class Stage:
    """One or more transforms of a chain. `|` appends another, or a chain as text."""

    __slots__ = ("_texts",)

    def __init__(self, *texts):
        self._texts = texts

    def __or__(self, other):
        if isinstance(other, Stage):
            return Stage(*self._texts, *other._texts)
        if isinstance(other, str):
            return Stage(*self._texts, *_stages_of(other))
        return NotImplemented

    def __ror__(self, other):
        if isinstance(other, str):
            return Stage(*_stages_of(other), *self._texts)
        return NotImplemented

    def __str__(self):
        return " | ".join(self._texts)

    def __repr__(self):
        return f"<Stage {self}>"

    def __eq__(self, other):
        return isinstance(other, Stage) and self._texts == other._texts

    def __hash__(self):
        return hash(self._texts)


def _stages_of(text):
    """The stages of a chain's text. A bar in quotes is no separator."""
    stages, begin, quote, at = [], 0, "", 0
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\" and quote == '"':
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter == "|":
            stages.append(text[begin:at])
            begin = at + 1
        at += 1
    stages.append(text[begin:])
    return [stage.strip() for stage in stages if stage.strip()]


def _takes_seed(stage):
    name, _, options = stage.partition(":")
    return name.strip() in _SEEDED and not options.startswith("seed=") and ",seed=" not in options.replace(" ", "")


def seeded(texts, seed):
    """The stages with a seed for each that has none. Each gets its own, so that no two hit the same messages."""
    made = []
    for place, stage in enumerate(texts):
        if _takes_seed(stage):
            joint = "," if ":" in stage else ":"
            stage = f"{stage}{joint}seed={(seed + place) % (1 << 64)}"
        made.append(stage)
    return made


def duration(seconds):
    """A time as the engine reads it."""
    return f"{round(_checked('a time', seconds) * 1e6)}us"


def _checked(what, number):
    if not 0 <= number < 1e12:
        raise ValueError(f"{what} is {number!r}, but must be 0 or more")
    return number


def _rate(share):
    if not 0 <= share <= 1:
        raise ValueError(f"a share is {share!r}, but must be from 0.0 to 1.0")
    return f"{share:.12f}".rstrip("0").rstrip(".")


def _count(number):
    return str(int(_checked("a number", number)))


def _stage(name, *options):
    given = ",".join(f"{key}={value}" for key, value in options if value is not None)
    return Stage(f"{name}:{given}" if given else name)


def _seed(seed):
    return "seed", None if seed is None else str(seed)


def delay(time, *, jitter=0.0, seed=None):
    """Delays each answer by `time`, plus or minus up to `jitter`."""
    return _stage("delay", ("time", duration(time)), ("jitter", duration(jitter) if jitter else None), _seed(seed))


def drop(rate=0.01, *, every=0, only=(), first=0, seed=None):
    """Some messages get no answer: a share of them, each `every`-th, the `first` ones, or `only` these, counted from 0."""
    if only:
        numbers = "+".join(str(int(_checked("a message", number)) + 1) for number in only)
        return _stage("drop", ("only", numbers))
    if first:
        return _stage("drop", ("first", _count(first)))
    if every:
        return _stage("drop", ("every", _count(every)))
    return _stage("drop", ("rate", _rate(rate)), _seed(seed))


def duplicate(rate=0.01, *, seed=None):
    """Some datagrams are answered twice."""
    return _stage("duplicate", ("rate", _rate(rate)), _seed(seed))


def reorder(rate=0.01, *, within=0.01, seed=None):
    """Some datagrams are answered up to `within` later, so that others overtake them."""
    return _stage("reorder", ("rate", _rate(rate)), ("within", duration(within)), _seed(seed))


def corrupt(rate=0.01, *, per="byte", mode="flip", seed=None):
    """Changes a share of the bytes, or a byte in a share of the messages."""
    return _stage("corrupt", ("rate", _rate(rate)), ("per", per), ("mode", mode), _seed(seed))


def truncate(at=None, *, rate=1.0, seed=None):
    """Cuts the end off messages, at a random place or behind `at` bytes."""
    return _stage("truncate", ("at", None if at is None else _count(at)), ("rate", _rate(rate)), _seed(seed))


def slice(size=1, *, gap=0.001):
    """Answers of a stream leave in pieces of `size` bytes, `gap` apart."""
    return _stage("slice", ("size", _count(size)), ("gap", duration(gap)))


def bandwidth(rate, *, burst=0):
    """Answers leave at `rate` bytes a second."""
    return _stage("bandwidth", ("rate", _count(rate)), ("burst", _count(burst) if burst else None))


def _ending(name, after, messages, first):
    return _stage(
        name,
        ("after", _count(after) if after else None),
        ("messages", _count(messages) if messages else None),
        ("first", _count(first) if first else None),
    )


def reset(*, after=0, messages=0, first=0):
    """Resets a connection instead of answering its first message, its `messages`-th, or the one that reaches `after` bytes.

    `first=2`: only the first two connections."""
    return _ending("reset", after, messages, first)


def close(*, after=0, messages=0, first=0):
    """Closes a connection behind its first answer, behind so many `messages`, or behind `after` bytes of answers.

    `first=2`: only the first two connections."""
    return _ending("close", after, messages, first)


def hold(*, after=0):
    """Never answers and keeps the connection, as a server that hangs; the first `after` bytes are answered."""
    return _stage("hold", ("after", _count(after) if after else None))
