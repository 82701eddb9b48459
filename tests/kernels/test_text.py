"""Messages made plain, signs made words, and what can't be read told from what can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.text.normalise import normalise
from kernels.text.readable import unreadable
from kernels.text.signs import signs_as_words


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ("I don&#39;t like it", "I don't like it"),
        ("&lt;3 &amp;amp; you", "<3 & you"),
        ("𝗜 𝗹𝗼𝘃𝗲 𝗶𝘁", "I love it"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full　width"),
        ("ⓘ ⓛⓞⓥⓔ", "i love"),
        ("I̶ ̶h̶a̶t̶e̶ it", "I hate it"),
        ("z̷̢̛a̸l̶g̵o̶", "zalgo"),
        ("so\u200bft\u00adly \u2060\ufeff", "softly "),
        ("w h y are you so m e a n", "why are you so mean"),
        ("I a m", "Iam"),
        ("naïve café Zoë", "naïve café Zoë"),
        ("नमस्ते", "नमस्ते"),
        ("¯\\_(ツ)_/¯ … ™", "¯\\_(ツ)_/¯ … ™"),
        ("plain words, kept.", "plain words, kept."),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_disguises_come_off_and_nothing_else_changes(sent: str, plain: str) -> None:
    assert normalise(sent) == plain


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("no 😭❤️", "no crying so sad love"),
        ("👍🏽", "good"),
        ("🍕 tonight", "slice of pizza tonight"),
        ("great:) see you", "great i am happy see you"),
        ("oh <3<3", "oh love"),
        ("fine :/ whatever", "fine not happy whatever"),
        ("thank you all so much :)", "thank you all so much :)"),
        ("thank you all so much 😂", "thank you all so much face with tears of joy"),
        ("see http://a.b/c", "see http://a.b/c"),
        ("a) b) 8) at 10:30 (x=1)", "a) b) 8) at 10:30 (x=1)"),
        ("std::vector<3> C:\\Dir", "std::vector<3> C:\\Dir"),
        ("GG all", "good game all"),
        ("eggs, legged", "eggs, legged"),
        ("→ here ™", "→ here ™"),
    ],
)
def test_signs_become_words_and_other_characters_stay(sent: str, words: str) -> None:
    assert " ".join(signs_as_words(sent).split()) == words


@pytest.mark.parametrize(
    "text",
    ["\u200b", "\u2800\u2800", "\ufe0f", "\u00ad", "\u2060\ufeff", "\0", "\u3164", "\U000e0041\U000e007f",
     "...", "!!!!", "?", "100%", "3.14 + 2", "12:30", "a", "zzz", "a a a a", "https://example.org/path?x=1",
     "www.example.org", "youtu.be/abc", "@bob", "<@1234>", "@bob @ann", "me@example.org", "[SEP]", "</s>",
     "<|endoftext|>", "```\nraise Error('hate')\n```", "```open", '{"error": "fatal"}', '[{"a": 1}]', "[]",
     "🍕", "👨‍👩‍👧", "🏳️‍🌈", "→→", ":smile_cat:", "---", "$$$", "1️⃣"],
)  # fmt: skip
def test_nothing_to_read_is_said(text: str) -> None:
    assert unreadable(text) == "nothing_readable"


@pytest.mark.parametrize(
    "text",
    ["你好，我很高兴", "Я тебя ненавижу", "אני עצוב", "ありがとう、楽しい", "नमस्ते मैं खुश हूँ",
     "مرحبا أنا حزين", "สวัสดี", "Γεια σου", "안녕하세요", "Ich hasse dich", "Estoy muy triste hoy",
     "xin chào tôi rất vui", "je suis content", "te quiero mucho", "merci beaucoup", "ich bin so traurig 😢",
     "nie wiem co robić", "bu çok güzel", "sono molto felice", "@bob ich hasse dich https://a.de/x"],
)  # fmt: skip
def test_another_language_is_told(text: str) -> None:
    assert unreadable(text) == "language"


@pytest.mark.parametrize(
    "text",
    ["I love it", "ok", "lol", "gg", "rip", "no", "hi", "brb", "idk", "wtf", "omg", "ty", "sick!!!",
     "PogChamp", "KEKW", "NOOOOOOOO", "w h y", "u r gr8 m8", "yeah right", "so sad", "no way", "great", "😂",
     "❤", "🙄", ":(", "<3", "¯\\_(ツ)_/¯", "(ಥ﹏ಥ)", "@bob #happy", "thanks @bob",
     "I love https://example.org", "that's fire 🔥", "Zoë is here again", "what a nice café", "bruh", "smh",
     "lmaooo", "ngl that slaps", "imo its mid", "I hate {this}", "[SEP] I hate you",
     "I said ich hasse dich and laughed, it was so funny"],
)  # fmt: skip
def test_english_chat_is_read_however_it_is_written(text: str) -> None:
    assert unreadable(text) is None


@given(st.text(max_size=200))
def test_any_text_is_judged_and_made_words_of(text: str) -> None:
    assert unreadable(text) in (None, "nothing_readable", "language")
    assert isinstance(signs_as_words(normalise(text)), str)
