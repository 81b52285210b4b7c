"""A run's config is formatted once."""

from types import SimpleNamespace

from mmengine.config import Config

from mimseg.compat.config_text import format_once


def test_equal_texts_are_formatted_once_and_changed_ones_again():
    calls = []

    def format_code(text, style_config=None):
        calls.append(text)
        return text.strip(), True

    api = SimpleNamespace(FormatCode=format_code)
    format_once(api)
    first = api.FormatCode(" a ", style_config={"based_on_style": "pep8"})
    assert api.FormatCode(" a ", style_config={"based_on_style": "pep8"}) == first == ("a", True)
    assert calls == [" a "]
    assert api.FormatCode(" a ", style_config={"based_on_style": "google"}) == first
    assert api.FormatCode(" b ", style_config={"based_on_style": "pep8"}) == ("b", True)
    assert calls == [" a ", " a ", " b "]


def test_mmengines_text_is_the_same_the_second_time_and_follows_the_config():
    from yapf.yapflib import yapf_api

    assert yapf_api.FormatCode.__wrapped__  # by `import mimseg`
    config = Config(dict(model=dict(type="A", sizes=[1, 2]), lr=0.1))
    text = config.pretty_text
    assert config.pretty_text == text and "lr = 0.1" in text
    config.lr = 0.2
    assert "lr = 0.2" in config.pretty_text
