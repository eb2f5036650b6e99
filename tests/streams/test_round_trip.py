"""What was written comes back, whatever its size and however it was cut."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifeboat.errors import StreamError
from lifeboat.streams.context import ObjectContext
from lifeboat.streams.encryption import wrapping_keys_of
from lifeboat.streams.keys import WrappingKey
from lifeboat.streams.metering import Meter
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter, one_of_many
from lifeboat.targets.local import LocalTarget
from tests.streams.conftest import FOLDER
from tests.streams.keys_made import MIB, read_all, write_all
from tests.targets.conftest import Place

DATA = random.Random(7).randbytes(9 * MIB)
To = Callable[..., Destination]
From = Callable[..., Origin]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 8 * MIB + 3])
def test_a_stream_of_any_size_comes_back(store: LocalTarget, to: To, back_from: From, size: int) -> None:
    stream = write_all(to(store), DATA[:size])
    assert [volume.number for volume in stream.volumes] == [1]
    assert stream.plain_size == size
    assert stream.plain_sha256 == hashlib.sha256(DATA[:size]).hexdigest()
    assert read_all(stream, back_from(store)) == DATA[:size]


@pytest.mark.parametrize("size", [1000, 1001, 2000, 2999, 3000, 3001])
def test_volumes_are_cut_at_their_border_and_numbered_in_order(
    store: LocalTarget, to: To, back_from: From, size: int
) -> None:
    stream = write_all(to(store), DATA[:size], volume_size=1000)
    count = -(-size // 1000)
    assert [volume.number for volume in stream.volumes] == list(range(1, count + 1))
    assert [volume.file for volume in stream.volumes] == [f"base.tar.{n:04d}.zst.enc" for n in range(1, count + 1)]
    assert [volume.plain_size for volume in stream.volumes[:-1]] == [1000] * (count - 1)
    assert read_all(stream, back_from(store)) == DATA[:size]


def test_volumes_larger_than_a_frame_come_back(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA, volume_size=4 * MIB - 1)
    assert [volume.plain_size for volume in stream.volumes] == [4 * MIB - 1, 4 * MIB - 1, MIB + 2]
    assert read_all(stream, back_from(store)) == DATA


def test_what_is_said_of_an_object_is_what_lies_there(store: LocalTarget, to: To) -> None:
    for volume in write_all(to(store), DATA[: 3 * MIB], volume_size=2 * MIB).volumes:
        stored = store.read(FOLDER + volume.file)
        assert (volume.stored_size, volume.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
        assert volume.crc32 == zlib.crc32(stored)


def test_a_stream_goes_to_every_kind_of_target_and_back(place: Place, to: To, back_from: From) -> None:
    target = place.open()
    stream = write_all(to(target), DATA * 2, volume_size=10 * MIB)
    assert read_all(stream, back_from(target)) == DATA * 2


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.integers(0, 3 * MIB), max_size=5),
    volume_size=st.sampled_from([777 * 1024, MIB, 5 * MIB]),
    reads=st.lists(st.integers(1, 2 * MIB), min_size=1, max_size=4),
    threads=st.integers(1, 2),
)
def test_neither_the_pieces_written_nor_those_read_matter(
    store: LocalTarget,
    to: To,
    back_from: From,
    chunks: list[int],
    volume_size: int,
    reads: list[int],
    threads: int,
) -> None:
    writer = StreamWriter("base.tar", to(store), StreamSettings(volume_size=volume_size, threads=threads))
    written = b""
    for size in chunks:
        piece = DATA[len(written) : len(written) + size]
        writer.write(memoryview(piece))
        written += piece
    stream = writer.finish()
    assert all(volume.plain_size <= volume_size for volume in stream.volumes)
    assert len(stream.volumes) == max(1, -(-len(written) // volume_size))
    found = b""
    with opened(stream, back_from(store)) as plain:
        while piece := plain.read(reads[len(found) % len(reads)]):
            found += piece
    assert found == written


def test_many_streams_side_by_side_do_not_mix(store: LocalTarget, to: To, back_from: From) -> None:
    def there_and_back(number: int) -> bool:
        data = DATA[number * 1000 : number * 1000 + 300_000]
        stream = write_all(to(store), data, name=f"stream-{number}", threads=1)
        return read_all(stream, back_from(store)) == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(there_and_back, range(12)))


def test_progress_counts_every_stored_byte(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA, volume_size=2 * MIB)
    seen: list[int] = []
    with opened(stream, back_from(store), seen.append) as plain:
        plain.read()
    assert sum(seen) == stream.stored_size


def test_a_keyring_knows_how_long_was_waited_and_how_long_it_opened(
    store: LocalTarget, to: To, back_from: From
) -> None:
    stream = write_all(to(store), DATA, volume_size=4 * MIB)
    origin = back_from(store)
    fetching, opening = origin.keyring.meter.now()
    read_all(stream, origin)
    after = origin.keyring.meter.now()
    assert after[0] > fetching
    assert after[1] > opening
    assert 0 < origin.keyring.meter.opening_within(3600, (fetching, opening)) == after[1] - opening


def test_decrypting_takes_its_share_of_the_time_and_no_more_than_it_took() -> None:
    meter = Meter()
    assert meter.opening_within(10) == 0
    meter.add(3, 1)
    assert meter.opening_within(2) == 0.5  # several threads at once
    assert meter.opening_within(100) == 1  # what else was done with the bytes
    before = meter.now()
    meter.add(1, 1)
    assert meter.opening_within(1, before) == 0.5


def test_an_object_opens_with_the_public_libraries_alone(store: LocalTarget, to: To, key_files: Path) -> None:
    import aws_encryption_sdk
    from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
    from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
    from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput

    stream = write_all(to(store), DATA[: 3 * MIB], volume_size=2 * MIB)
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    plain = b""
    for volume in stream.volumes:
        keyring = providers.create_raw_aes_keyring(
            CreateRawAesKeyringInput(
                key_namespace="lifeboat",
                key_name="second",
                wrapping_key=base64.b64decode((key_files / "second.key").read_text()),
                wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
            )
        )
        compressed, header = aws_encryption_sdk.EncryptionSDKClient().decrypt(
            source=store.read(FOLDER + volume.file), keyring=keyring
        )
        assert header.encryption_context == {
            "lifeboat-format": "1",
            "system": "erp",
            "source": "database",
            "recovery-point": "20261122T020000Z-full-7f3a",
            "object": "base.tar",
            "volume": str(volume.number),
        }
        assert header.algorithm.name == "AES_256_GCM_HKDF_SHA512_COMMIT_KEY"
        reader = zstandard.ZstdDecompressor().decompressobj()
        plain += reader.decompress(compressed)
        assert reader.eof
        assert reader.unused_data == b""
    assert plain == DATA[: 3 * MIB]


def test_the_frame_carries_its_checksum(store: LocalTarget, to: To, opening) -> None:
    from lifeboat.streams.encryption import OpenedObject

    (volume,) = write_all(to(store), b"some text").volumes
    context = ObjectContext("erp", "database", "20261122T020000Z-full-7f3a", "base.tar", 1)
    message = OpenedObject(BytesIO(store.read(FOLDER + volume.file)), context, opening, "it")
    assert zstandard.get_frame_parameters(message.read(100)).has_checksum


def test_the_header_names_every_key(store: LocalTarget, to: To) -> None:
    (volume,) = write_all(to(store), b"some text").volumes
    named = wrapping_keys_of(BytesIO(store.read(FOLDER + volume.file)), "it")
    assert named == {WrappingKey("lifeboat", "first"), WrappingKey("lifeboat", "second")}


def test_no_key_and_no_plain_text_lies_in_an_object(store: LocalTarget, to: To, key_files: Path) -> None:
    (volume,) = write_all(to(store), b"a very plain text " * 100).volumes
    stored = store.read(FOLDER + volume.file)
    assert b"very plain" not in stored
    assert base64.b64decode((key_files / "first.key").read_text()) not in stored
    assert json.dumps(volume.model_dump())  # what a manifest says is plain JSON


def test_a_writer_that_was_ended_takes_no_more(store: LocalTarget, to: To) -> None:
    writer = StreamWriter("base.tar", to(store), one_of_many(StreamSettings()))
    writer.write(b"all of it")
    writer.end()
    writer.write(b"and then some")
    with pytest.raises(StreamError, match="after its end"):
        writer.finish()
    with pytest.raises(StreamError, match="after its end"):
        writer.finish()


def test_finishing_twice_says_the_same(store: LocalTarget, to: To) -> None:
    writer = StreamWriter("base.tar", to(store), StreamSettings(volume_size=3))
    writer.write(b"all of it")
    assert writer.finish() == writer.finish()
