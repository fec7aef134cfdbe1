"""Which peer hosts which ensemble node: exact, explained, pure (``spec/orchestration.md`` 5.3, 12.1).

::

    problem       what is asked: nodes, offers, edges, weights
    measurements  what was measured between peers
    rules         what keeps a node from a peer, the two looked at alone
    ranking       how bad a node on a peer is, in points
    capacity      what peers have left
    distances     which pairs of peers keep the bounds of an edge
    instance      the problem by index, equal nodes told apart from different ones
    counting      nodes without edges: counted
    search        nodes with edges: branch and bound
    solve         both, with restarts; the answer
    improvement   from some assignment to a better one
    dive          a whole assignment from one node on one peer
    cooling       single nodes move, ever more strictly to the better
    conflict      the smallest set of wishes that cannot be met
    outcome       answers
    reasons       why not this peer
    bids          the same over bids as they come
    bits          sets of peers
"""

from dms.network.coordinates import Coordinate
from dms.orchestrator.matching.bids import Unmatched, match, offers_of, ranking_currency
from dms.orchestrator.matching.instance import Problem
from dms.orchestrator.matching.measurements import Measurements
from dms.orchestrator.matching.outcome import Conflict, Infeasible, Outcome, Placed, Undecided, Unmeasured
from dms.orchestrator.matching.problem import Circle, Edge, Offer, Wanted, Weights
from dms.orchestrator.matching.reasons import Reasons
from dms.orchestrator.matching.rules import Refusal, Rule
from dms.orchestrator.matching.solve import default_work, solve
from dms.types.places import Place

__all__ = [
    "Circle",
    "Conflict",
    "Coordinate",
    "Edge",
    "Infeasible",
    "Measurements",
    "Offer",
    "Outcome",
    "Place",
    "Placed",
    "Problem",
    "Reasons",
    "Refusal",
    "Rule",
    "Undecided",
    "Unmatched",
    "Unmeasured",
    "Wanted",
    "Weights",
    "default_work",
    "match",
    "offers_of",
    "ranking_currency",
    "solve",
]
