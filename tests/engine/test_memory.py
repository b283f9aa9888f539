"""The KV cache takes what is free and no more."""

import pytest

from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.errors import LoadError
from outrider.engine.memory import _group_room, available_bytes, num_kv_blocks

BLOCK = 1000  # bytes


def test_the_default_is_a_share_of_what_is_free() -> None:
    """Never more than requests in every place could use."""
    config = EngineConfig("model", max_num_seqs=4, max_num_batched_tokens=64, memory_utilization=0.5)

    assert num_kv_blocks(config, 8 * BLOCK_SIZE, BLOCK, available=40 * BLOCK) == 20
    assert num_kv_blocks(config, 8 * BLOCK_SIZE, BLOCK, available=10**9) == 4 * 8


def test_bytes_that_are_asked_for_are_taken_whatever_is_free() -> None:
    """The user knows better."""
    config = EngineConfig("model", max_num_seqs=4, kv_memory_bytes=16 * BLOCK)

    assert num_kv_blocks(config, 8 * BLOCK_SIZE, BLOCK, available=0) == 16


def test_too_little_memory_is_refused_with_the_way_out() -> None:
    """One line with the number of bytes that one request needs."""
    config = EngineConfig("model", memory_utilization=0.5)

    with pytest.raises(LoadError, match=r"--memory-utilization 0.5 of .* holds 96 tokens, .* 256: give .* 8000 bytes"):
        num_kv_blocks(config, 8 * BLOCK_SIZE, BLOCK, available=7 * BLOCK)


def test_control_groups_limit_what_is_free(tmp_path) -> None:
    """Version 2, without a limit and with one, and version 1; files that were only read can be dropped."""
    assert _group_room(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 60\ninactive_file 30\n")
    assert _group_room(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert _group_room(tmp_path) == [930]
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("200")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("300")
    (tmp_path / "memory" / "memory.stat").write_text("total_inactive_file 50\n")
    assert _group_room(tmp_path) == [930, 0]


def test_this_machine_has_memory() -> None:
    """Whatever it is measured by."""
    assert available_bytes() > 2**20


def test_a_share_that_is_none_is_refused() -> None:
    """By the option's name."""
    with pytest.raises(ValueError, match="memory_utilization must be above 0"):
        EngineConfig("model", memory_utilization=1.2)
