"""Small articles in SQuAD's form, generated from a grammar that a model can learn."""

import numpy as np

from fedlab.clients import seeding
from fedlab.tasks.question_answering.windows import Answer, Question
from fedlab.tasks.question_answering.wordpiece import SPECIAL

_NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas")
_VERBS = ("built", "found", "painted", "sold", "stole", "wrote")
_THINGS = ("boat", "bridge", "clock", "crown", "flute", "house", "lamp", "map", "ring", "tower")
_PLACES = (
    "Athens",
    "Bergen",
    "Cairo",
    "Dublin",
    "Geneva",
    "Lima",
    "Madrid",
    "Oslo",
    "Prague",
    "Turin",
)
_YEARS = tuple(str(year) for year in range(1801, 1811))
_WORDS = (_NAMES, _VERBS, _THINGS, _PLACES, _YEARS)

VOCABULARY = (
    *SPECIAL,
    *sorted(
        {
            w.lower()
            for words in (*_WORDS, ("who", "where", "when", "was", "the", "in", ".", "?"))
            for w in words
        }
    ),
)


def article(
    number: int, seed: int, num_paragraphs: int, num_facts: int, unanswerable: float
) -> list[Question]:
    """Returns the questions of article `number`, a pure function of (seed, number)."""
    rng = seeding.generator(seed, "squad synthetic", number)
    # Word frequencies differ between articles.
    own = [rng.dirichlet(np.full(len(words), 1.0)) for words in _WORDS]
    title = f"ARTICLE_{number}"
    return [
        question
        for p in range(num_paragraphs)
        for question in _paragraph(f"{title}_{p}", title, rng, own, num_facts, unanswerable)
    ]


def _paragraph(prefix, title, rng, own, num_facts, unanswerable):
    # Each word occurs in one fact only, so that the thing in a question identifies the
    # fact. One more thing occurs in none.
    names, verbs, things, places, years = (
        _draw(rng, words, p, num_facts + 1) for words, p in zip(_WORDS, own)
    )
    context, starts = "", []
    for i in range(num_facts):
        context += " " if context else ""
        starts.append(len(context))
        context += f"{names[i]} {verbs[i]} the {things[i]} in {places[i]} in {years[i]}."
    questions = []
    for i in range(num_facts):
        thing = f"the {things[i]}"
        pairs = (
            (f"Who {verbs[i]} {thing}?", names[i]),
            (f"Where was {thing}?", places[i]),
            (f"When was {thing} {verbs[i]}?", years[i]),
        )
        for kind, (question, answer) in enumerate(pairs):
            answers = (Answer(answer, context.index(answer, starts[i])),)
            if rng.random() < unanswerable:
                question, answers = question.replace(thing, f"the {things[num_facts]}"), ()
            questions.append(Question(f"{prefix}_{i}_{kind}", title, context, question, answers))
    return questions


def _draw(rng, words, probabilities, count):
    # Verbs may repeat if there are more facts than verbs; things may not.
    return rng.choice(words, size=count, replace=count > len(words), p=probabilities).tolist()
