"""Who waits for the broker's word on what was published, and what it was."""

from __future__ import annotations

import asyncio

ANSWER_SECONDS = 10.0


class Acknowledgements:
    """By the number of a packet, which is a connection's own: a later one counts from 1 again."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[str | None]] = {}

    async def of(self, number: int) -> str | None:
        """Return None when the broker has it, else why it has not."""
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            return f"the broker did not answer within {ANSWER_SECONDS:g} s"
        finally:
            if self._waiting.get(number) is answer:
                del self._waiting[number]

    def take(self, number: int, refusal: str | None) -> bool:
        """Tell who waits what the broker said; return whether anybody waits."""
        answer = self._waiting.get(number)
        if answer is None or answer.done():
            return False
        answer.set_result(f"the broker refused it: {refusal}" if refusal else None)
        return True

    def lose(self) -> None:
        """Tell everybody that no answer will come any more."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result("the connection was lost before the broker answered")
        self._waiting.clear()
