"""After an update: older events are taken into the index of what events name, beside the writer."""

from __future__ import annotations

import asyncio
import logging
import time

from services.recorder.storage.failures import UNACCEPTABLE, UNREACHABLE, words_of
from services.recorder.store import Store

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.02
"""Between two small transactions, for the writer."""
RETRY_SECONDS = 10.0
TOLD_SECONDS = 60.0


async def make_searchable(store: Store) -> None:
    """Take in all of them, from the newest to the oldest, and say how far that is."""
    first, trouble = 0, ""
    told = time.monotonic()
    while True:
        try:
            left = await store.mention_older()
        except (*UNREACHABLE, *UNACCEPTABLE) as error:
            words = words_of(error)
            if words != trouble:
                logger.warning("%s: older events wait to be indexed: %s", store.name, words)
            trouble = words
            await asyncio.sleep(RETRY_SECONDS)
            continue
        trouble = ""
        if not first and left:
            logger.info(
                "%s: up to %d older events are being indexed, the newest first; until then searches"
                " say how far back they looked",
                store.name,
                left,
            )
            first = left
        if not left:
            break
        if time.monotonic() - told >= TOLD_SECONDS:
            told = time.monotonic()
            logger.info(
                "%s: %d %% of older events are indexed", store.name, 100 - 100 * left // first
            )
        await asyncio.sleep(PAUSE_SECONDS)
    if first:
        logger.info("%s: all events are indexed", store.name)
