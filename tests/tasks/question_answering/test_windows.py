"""Windows: against the tokenizer library's overflow and a slow search for answers."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.tasks.question_answering import windows
from fedlab.tasks.question_answering.windows import Answer, Question
from fedlab.tasks.question_answering.wordpiece import WordPiece

WORDS = ("to", "be", "or", "not", "that", "is", "question", "?", ".", "un", "##be", "##s", "a")
WORD_PIECE = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])


def make(questions, **lengths):
    contexts = list(dict.fromkeys(question.context for question in questions))
    tokens = (
        WORD_PIECE.encode([question.question for question in questions]),
        WORD_PIECE.encode(contexts),
    )
    return windows.make(questions, WORD_PIECE, tokens[0], contexts, tokens[1], **lengths)


def question(context, asked, *answers, question_id="q"):
    return Question(
        question_id,
        "title",
        context,
        asked,
        tuple(Answer(text, context.index(text)) for text in answers),
    )


def words(row):
    return [WORD_PIECE.tokens[i] for i in row]


def test_one_window_by_hand():
    made = make([question("to be or not", "is that?", "be or")], max_length=16)
    columns = made.columns()
    assert (
        words(columns["input_ids"][0])
        == "[CLS] is that ? [SEP] to be or not [SEP]".split() + ["[PAD]"] * 6
    )
    assert columns["token_type_ids"].tolist() == [[0] * 5 + [1] * 5 + [0] * 6]
    assert columns["attention_mask"].tolist() == [[1] * 10 + [0] * 6]
    assert columns["y"].tolist() == [[6, 7]]
    assert {name: (array.dtype, array.shape) for name, array in columns.items()} == {
        **{
            name: (np.dtype("int32"), (1, 16))
            for name in ("input_ids", "token_type_ids", "attention_mask")
        },
        "y": (np.dtype("int32"), (1, 2)),
    }
    assert made.characters(0, 6, 7) == (3, 8)


def test_columns_without_the_padding_that_all_share():
    made = make(
        [question("to be or not", "is that?", "be or"), question("to be", "is?", "be")],
        max_length=16,
    )
    assert made.lengths.tolist() == [10, 7]
    whole, cut = made.columns(), made.columns(length=10)
    for name, column in whole.items():
        np.testing.assert_array_equal(cut[name], column if name == "y" else column[:, :10])
    assert made.columns([1], length=7)["input_ids"].shape == (1, 7)
    with pytest.raises(ValueError, match="length=9: expected at least 10"):
        made.columns(length=9)


def test_overlapping_windows_by_hand():
    # A question of 3 leaves room for 10 of 16 tokens; windows share 4 of them, so they
    # begin every 6.
    context = "to be or not to be that is a question . un not"
    made = make(
        [question(context, "is that?", "a question")],
        max_length=16,
        stride=4,
        max_question_length=5,
    )
    assert made.first.tolist() == [0, 6] and made.count.tolist() == [10, 7]
    assert made.columns()["y"].tolist() == [[5 + 8, 5 + 9], [5 + 2, 5 + 3]]
    cut = make(
        [question(context, "is that?", "question .")],
        max_length=16,
        stride=4,
        max_question_length=5,
    )
    assert cut.columns()["y"].tolist() == [
        [0, 0],
        [5 + 3, 5 + 4],
    ]  # the first window holds only half of it


def test_an_answer_inside_a_word_is_the_whole_token_and_white_space_is_nothing():
    made = make(
        [
            question("unbes to", "is?", "be"),
            question("unbes to", "is?", "un"),
            question("unbes to", "is?", "s to"),
        ],
        max_length=16,
    )
    assert made.y.tolist() == [[5, 5], [4, 4], [6, 7]]
    made = make([question("to \r\n be  not", "is?", " be ")], max_length=16)
    assert made.y.tolist() == [[5, 5]] and made.characters(0, 5, 5) == (6, 8)


def test_the_first_answer_that_has_tokens_counts():
    made = make(
        [
            Question(
                "q",
                "t",
                "to \u200b be",
                "is?",
                (Answer("\u200b", 3), Answer("be", 5), Answer("to", 0)),
            )
        ],
        max_length=16,
    )
    assert made.y.tolist() == [[5, 5]] and made.skipped == {}


def test_no_answer_is_the_first_position():
    made = make([question("to be", "is?")], max_length=16)
    assert made.y.tolist() == [[0, 0]] and made.skipped == {}


def test_questions_without_tokens_are_left_out_and_counted():
    questions = [
        question("\u200b", "is?", question_id="a"),
        question("to be", "\u200b", "to", question_id="b"),
        question("to \u200b be", "is?", "\u200b", question_id="c"),
        question("to be", "is?", "be", question_id="d"),
        question("to \u200b be", "is?", "be", question_id="e"),
    ]
    made = make(questions, max_length=16)
    assert [q.question_id for q in made.questions] == ["d", "e"] and made.y.tolist() == [
        [5, 5],
        [5, 5],
    ]
    assert made.skipped == {
        "a question without tokens": 1,
        "a context without tokens": 1,
        "an answer without tokens": 1,
    }
    assert words(made.columns()["input_ids"][1])[:7] == "[CLS] is ? [SEP] to be [SEP]".split()
    with pytest.raises(
        ValueError, match="1 questions: expected a usable one.*a question without tokens"
    ):
        make(questions[1:2], max_length=16)


texts = st.lists(
    st.sampled_from([w.removeprefix("##") for w in WORDS] + ["unbe", "bes", "\n", "\u00e9"]),
    min_size=1,
    max_size=60,
).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(context=texts, asked=texts, max_length=st.integers(16, 40), data=st.data())
def test_windows_are_those_of_the_library(context, asked, max_length, data):
    if not len(WORD_PIECE.encode([asked]).ids) or not len(WORD_PIECE.encode([context]).ids):
        return
    longest = max_length // 3
    stride = data.draw(st.integers(0, max_length - longest - 4))
    made = make(
        [question(context, asked)],
        max_length=max_length,
        stride=stride,
        max_question_length=longest,
    )

    theirs = tokenizers.Tokenizer.from_str(WORD_PIECE._tokenizer.to_str())
    theirs.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", WORD_PIECE.sep_id), ("[CLS]", WORD_PIECE.cls_id)
    )
    theirs.enable_truncation(max_length, stride=stride, strategy="only_second")
    theirs.enable_padding(length=max_length, pad_id=WORD_PIECE.pad_id)
    # The library refuses a question that leaves no room: cut it as we do.
    ids, offsets = WORD_PIECE.encode([asked]).of(0)
    first = theirs.encode(asked[: offsets[:longest][-1, 1]], context)
    expected = [first, *first.overflowing]
    columns = made.columns()
    assert columns["input_ids"].tolist() == [e.ids for e in expected]
    assert columns["token_type_ids"].tolist() == [e.type_ids for e in expected]
    assert columns["attention_mask"].tolist() == [e.attention_mask for e in expected]
    for window, encoding in enumerate(expected):
        for position, sequence in enumerate(encoding.sequence_ids):
            if sequence == 1:
                assert made.characters(window, position, position) == encoding.offsets[position]


@settings(max_examples=100, deadline=None)
@given(context=texts, data=st.data())
def test_labels_lead_back_to_the_answer(context, data):
    tokens = WORD_PIECE.encode([context])
    if not len(tokens.ids):
        return
    first = data.draw(st.integers(0, len(tokens.ids) - 1))
    last = data.draw(st.integers(first, len(tokens.ids) - 1))
    start, end = int(tokens.offsets[first, 0]), int(tokens.offsets[last, 1])
    asked = Question("q", "t", context, "is that?", (Answer(context[start:end], start),))
    made = make([asked], max_length=16, stride=3)
    for window in range(made.num_windows):
        low, high = made.first[window], made.first[window] + made.count[window]
        if low <= first and last < high:
            assert made.characters(window, *made.y[window].tolist()) == (start, end)
        else:
            assert made.y[window].tolist() == [0, 0]
    if last - first < 3:  # what is not longer than the overlap is whole in some window
        assert made.y.any()


def three():
    return make(
        [
            question(
                "to be or not to be that is a question . un not",
                "is that?",
                "a question",
                question_id="long",
            ),
            question("to be", "be or not?", "be", question_id="short"),
            question("or not", "a?", question_id="none"),
        ],
        max_length=16,
        stride=4,
    )


def test_select_and_windows_of():
    made = three()
    assert made.question.tolist() == [0, 0, 1, 2]
    assert made.windows_of([2, 0]).tolist() == [3, 0, 1] and made.windows_of([]).tolist() == []
    chosen = made.select([2, 0])
    assert [q.question_id for q in chosen.questions] == [
        "none",
        "long",
    ] and chosen.question.tolist() == [0, 1, 1]
    for name, column in chosen.columns().items():
        np.testing.assert_array_equal(column, made.columns([3, 0, 1])[name])
    assert chosen.characters(2, *chosen.y[2].tolist()) == made.characters(1, *made.y[1].tolist())
    assert made.select([]).columns()["input_ids"].shape == (0, 16)
    with pytest.raises(ValueError, match="questions 0 to 3: expected indices from 0 to 2"):
        made.windows_of([0, 3])


def test_clients_keep_a_questions_windows_together():
    data = three().clients(
        {"ann": np.array([0]), "bob": np.array([1, 2]), "eve": np.array([], np.int64)}
    )
    assert [data.num_examples(client_id) for client_id in data] == [2, 2, 0]
    assert data["bob"]["y"].tolist() == [[7, 7], [0, 0]]
    x, y = next(iter(data.to_dataset(batch_size=4)))
    assert sorted(x) == ["attention_mask", "input_ids", "token_type_ids"] and y.shape == (4, 2)


def test_positions_that_are_not_of_the_context():
    for first, last in ((0, 5), (4, 5), (6, 5), (5, 15)):
        with pytest.raises(
            ValueError,
            match=f"positions {first} to {last}: expected positions from 5 to 14",
        ):
            three().characters(0, first, last)


@pytest.mark.parametrize(
    "lengths, message",
    [
        ({"max_length": 15}, "max_length=15: expected an integer between 16 and"),
        ({"max_length": 16.0}, "max_length=16.0"),
        ({"max_length": 16, "stride": -1}, "stride=-1: expected an integer of at least 0"),
        ({"max_length": 16, "max_question_length": 0}, "max_question_length=0"),
        (
            {"max_length": 32, "stride": 19},
            "stride=19: expected less than 19, .*max_length=32 .*max_question_length=10",
        ),
    ],
)
def test_lengths_out_of_range(lengths, message):
    with pytest.raises(ValueError, match=message):
        make([question("to be", "is?", "be")], **lengths)
