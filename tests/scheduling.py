"""How the tests are dealt out to the processes that run them."""

from __future__ import annotations

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController


class Forgetting(LoadGroupScheduling):  # type: ignore[misc]  # it has no types
    """As ``--dist=loadgroup``, but what is done is forgotten.

    The original keeps it, and goes through all of it after each test: with ten thousand tests that costs a tenth of the run.
    """

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """See :class:`LoadGroupScheduling`."""
        super().mark_test_complete(node, item_index, duration)
        group = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][group].values()):
            del self.assigned_work[node][group]
