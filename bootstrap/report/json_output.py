"""Plans and views as plain JSON values; field names are part of the public contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

from ..core.actions import Plan, describe
from ..core.facts import Facts
from ..core.findings import Finding
from ..core.move_costs import move_cost
from ..core.slots import SLOT_COUNT, SlotSet
from ..core.topology import ClusterView, NodeView
from .layout import Look, Shard, shards

Json = dict[str, "JsonValue"]
JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Json


def plan_as_json(look: Look, forecast: Sequence[Plan]) -> Json:
    """Return this stage exactly, the later ones as forecast, and what slot moves would cost."""
    plan, view = look.plan, look.view
    return {
        "healthy": look.is_healthy,
        "verdict": asdict(look.verdict),
        "has_work": not plan.is_healthy,
        "blocked": plan.is_waiting or bool(plan.refusals),
        "stage": plan.stage.name.lower() if plan.stage else None,
        "fingerprint": plan.fingerprint,
        "actions": [_named(describe(action), view) for action in plan.actions],
        "forecast": [
            {
                "stage": step.stage.name.lower() if step.stage else None,
                "actions": [_named(describe(action), view) for action in step.actions],
            }
            for step in forecast
        ],
        "cost": asdict(move_cost([plan, *forecast], view)),
        "findings": findings_as_json(plan),
        "notices": [_finding(notice) for notice in plan.notices],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
        "absent": [asdict(absent) for absent in view.absent],
    }


def _named(fields: dict[str, str | int | bool], view: ClusterView) -> Json:
    """Put pod names beside node ids."""
    names = {str(node.node_id): node.name for node in view.nodes}
    named: Json = dict(fields)
    for key, value in fields.items():
        if isinstance(value, str) and value in names:
            named[f"{key}_name"] = names[value]
    return named


def findings_as_json(plan: Plan) -> list[JsonValue]:
    """Return the findings as objects with code, node and detail."""
    return [_finding(finding) for finding in plan.findings]


def _finding(finding: Finding) -> Json:
    return {"code": finding.code.value, "node": finding.node, "detail": finding.detail}


def status_as_json(look: Look) -> Json:
    """Return nodes, shards, slots, failure domains and findings."""
    view, plan = look.view, look.plan
    facts = Facts(view, look.desired)
    not_seen = SlotSet.all() - facts.owned if plan.is_partial else SlotSet()
    return {
        "healthy": look.is_healthy,
        "verdict": asdict(look.verdict),
        "nodes": [_node(node, facts) for node in view.nodes],
        "absent": [asdict(absent) for absent in view.absent],
        "shards": [
            _shard(shard) for shard in shards(facts) if shard.live or shard.number is not None
        ],
        "slots": {
            "owned": len(facts.owned),
            "total": SLOT_COUNT,
            "uncovered": str(facts.uncovered - not_seen),
            "unknown": str(not_seen),
            "open": str(facts.open_slots),
        },
        "shared_domains": [
            {"shard": shard[0].name, "nodes": [one.name, other.name]}
            for shard in facts.shards
            for one, other in combinations(shard, 2)
            if one.place.overlap(other.place)
        ],
        "findings": findings_as_json(plan),
        "notices": [_finding(notice) for notice in plan.notices],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
    }


def _shard(shard: Shard) -> Json:
    primary = shard.live[0] if shard.has_primary else None
    return {
        "number": shard.number,
        "primary": primary.name if primary else None,
        "primary_id": shard.primary_id,
        "replicas": [node.name for node in shard.live if node is not primary],
        "slots": str(shard.slots),
        "slot_count": len(shard.slots),
        "keys": primary.keys if primary else None,
    }


def _node(node: NodeView, facts: Facts) -> Json:
    primary = facts.live.get(node.myself.primary_id) if node.myself.primary_id else None
    return {
        "name": node.name,
        "ordinal": node.endpoint.ordinal,
        "address": str(node.address),
        "node_id": node.node_id,
        "role": node.role.value,
        "primary": primary.name if primary else None,
        "slots": str(node.slots),
        "slot_count": len(node.slots),
        "keys": node.keys,
        "config_epoch": node.myself.config_epoch,
        "state": "ok" if node.state_ok else "fail",
        "link_up": node.link_up,
        "zone": node.place.zone,
        "node": node.place.node,
        "engine": node.engine,
        "version": ".".join(map(str, node.version)),
        "used_memory": node.used_memory,
        "stays": facts.desired.stays(node.endpoint.ordinal),
    }
