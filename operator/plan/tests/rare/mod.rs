//! What chance meets too seldom: each of these went unseen by the properties when the planner was broken for it.

use crate::under_way::Row;

/// Changes of one cluster or version.
pub(crate) const CHANGES: &[Row] = &[
    (
        "a cluster that a policy has, and has no entry of yet, leaves it for the next policy",
        [
            "  placement: {clusterSelector: {matchExpressions: [{key: region, operator: Exists}]}}\n  rollout: {paused: true}",
            "",
            "",
        ],
        &[("cluster c9 region=a", false), ("cluster c9 region-", true)],
    ),
    (
        "the last other policy for the model goes, and what it had is free",
        ["", "  placement: {numberOfClusters: 3}", ""],
        &[("delete p", false), ("cluster c1 load=3", true), ("obey c1", true)],
    ),
    (
        "one that another policy has for long comes to match, and stays that one's",
        ["", "  placement: {clusterSelector: {matchExpressions: [{key: region, operator: Exists}]}}", ""],
        &[("cluster c8 load=8", true), ("obey c8", true), ("cluster c8 region=a", true)],
    ),
    (
        "a group that clusters left is smaller",
        [
            "",
            "",
            "  rollout: {disruptionBudget: {groupBy: region, maxUnavailable: 40%}, maxConcurrent: 100%, maxFailures: 100%}",
        ],
        &[
            ("cluster c1 region=a", true),
            ("cluster c3 region=a", true),
            ("cluster c5 region=a", true),
            ("cluster c8 region=b", false),
            ("cluster c9 region=b", false),
            ("cluster c10 region=b", true),
        ],
    ),
    (
        "who takes the last place is not told yet, and a better one comes",
        ["", "", "  placement: {numberOfClusters: 9, prioritizers: [{by: Label, key: load}]}"],
        &[("cluster c8 load=1", true), ("cluster c9 load=1", false), ("cluster c10 load=6", true)],
    ),
    (
        "a domain in which nobody is selected comes, and goes: one more elsewhere is one too many meanwhile",
        ["", "", "  placement: {numberOfClusters: 2, spread: [{topologyKey: region}]}"],
        &[("cluster c9 region=c", true), ("cluster c9 region=a", true)],
    ),
    (
        "one that nobody waits for changes what the others' scores are measured by",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1}",
        ],
        &[
            ("cluster c8 load=7 free=40", false),
            ("cluster c9 load=4 free=50", false),
            ("cluster c10 free=1", true),
        ],
    ),
    (
        "the target turns out to be too large for one that nobody has asked yet",
        ["", "", ""],
        &[("cluster c9 free=5", false), ("version m 1 size=20", true)],
    ),
    (
        "the version that a rollout leaves behind was made anew, and is another",
        ["  rollout: {maxConcurrent: 1}", "", ""],
        &[("policy p version=2", true), ("version m 1 digest=sha256:another", true)],
    ),
    (
        "one that another policy took, by itself, is one's own again when that one comes after",
        [
            "",
            "  placement: {numberOfClusters: 4, spread: [{topologyKey: line, maxSkew: 2}, {topologyKey: region}]}",
            "",
        ],
        &[("policy q priority=1", false), ("cluster c1 line=1", false), ("policy q priority=0", false)],
    ),
];

/// A better one takes the place of one that was chosen.
pub(crate) const DROPPED: &[Row] = &[
    (
        "one that is dropped is judged by what it is without its entry",
        [
            "  placement: {numberOfClusters: 3, prioritizers: [{by: Steady}, {by: Label, key: load, weight: 3}]}",
            "",
            "",
        ],
        &[
            ("cluster c1 load=700", false),
            ("cluster c5 taint=s=1:NoSelectIfNew", false),
            ("cluster c5 untainted", true),
        ],
    ),
    (
        "those that a taint keeps new ones away from are dropped for it, and change meanwhile",
        [
            "",
            "",
            "  placement: {numberOfClusters: 3, prioritizers: [{by: Steady}, {by: Label, key: load, weight: 3}]}",
        ],
        &[
            ("cluster c1 taint=s=1:NoSelectIfNew", true),
            ("cluster c2 taint=s=1:NoSelectIfNew", true),
            ("cluster c3 taint=s=1:NoSelectIfNew", true),
            ("cluster c4 taint=s=1:NoSelectIfNew", true),
            ("cluster c5 taint=s=1:NoSelectIfNew", true),
            ("cluster c6 taint=s=1:NoSelectIfNew", true),
            ("cluster c7 taint=s=1:NoSelectIfNew", true),
            ("cluster c8 load=700", false),
            ("cluster c1 region=z", false),
            ("cluster c2 region=z", false),
            ("cluster c3 region=z", false),
            ("cluster c4 region=z", false),
            ("cluster c5 region=z", false),
            ("cluster c6 region=z", false),
            ("cluster c7 region=z", true),
        ],
    ),
    (
        "one that a better one took the place of has it back before its entry is gone",
        [
            "",
            "",
            "  placement: {numberOfClusters: 3, prioritizers: [{by: Steady}, {by: Label, key: load, weight: 3}]}",
        ],
        &[("cluster c8 load=700", false), ("gone c8", false), ("cluster c9 load=900", true)],
    ),
];

/// All rank anew.
pub(crate) const RANKS: &[Row] = &[
    (
        "values that differ by less than a score can tell are a tie",
        [
            "",
            "",
            "  placement: {numberOfClusters: 1, prioritizers: [{by: Label, key: load}]}\n  rollout: {paused: true}",
        ],
        &[
            ("cluster c11 load=1", true),
            ("cluster c10 load=950000000000000000", true),
            ("cluster c14 load=900000000000000000.001", true),
            ("cluster c15 load=900000000000000000.002", true),
            ("cluster c16 load=900000000000000000.003", true),
            ("gone c10", true),
        ],
    ),
    (
        "those that wait for their turn change places when a scale moves",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1}",
        ],
        &[
            ("cluster c8 load=9 free=40", true),
            ("cluster c9 load=4 free=50", true),
            ("cluster c10 load=7 free=45", true),
            ("cluster c11 load=1000 free=1", true),
            ("obey c8", true),
            ("obey c9", true),
        ],
    ),
    (
        "so do those that are spread",
        [
            "",
            "",
            "  placement: {spread: [{topologyKey: region, maxSkew: 9}], prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1}",
        ],
        &[
            ("cluster c8 region=a load=5 free=40", false),
            ("cluster c9 region=a load=4 free=50", false),
            ("cluster c10 region=b load=9 free=45", false),
            ("cluster c11 region=b load=1000 free=1", false),
            ("disconnect c11", true),
        ],
    ),
    (
        "and those that serve the version before",
        [
            "",
            "",
            "  placement: {spread: [{topologyKey: region}], prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1}",
        ],
        &[
            ("cluster c1 load=9 free=40", true),
            ("cluster c2 load=4 free=50", true),
            ("cluster c3 load=7 free=45", true),
            ("policy r version=2", true),
            ("disconnect c7", true),
            ("cluster c4 load=1000 free=1", true),
            ("obey c3", true),
        ],
    ),
    (
        "one that was away when the scale moved",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1}",
        ],
        &[
            ("cluster c1 load=9 free=40", true),
            ("cluster c2 load=4 free=50", true),
            ("cluster c3 load=7 free=45", true),
            ("policy r version=2", true),
            ("disconnect c2", true),
            ("disconnect c1", true),
            ("cluster c4 load=1000 free=1", true),
            ("connect c1", true),
            ("connect c2", true),
            ("obey c3", true),
        ],
    ),
    (
        "those that were sent back before the scale moved, and are told again",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {maxConcurrent: 1, onFailure: Rollback}",
        ],
        &[
            ("cluster c1 load=9 free=40", true),
            ("cluster c2 load=4 free=50", true),
            ("cluster c3 load=7 free=45", true),
            ("policy r version=2", true),
            ("report c3 k@2 Failed", true),
            ("obey c3", true),
            ("disconnect c7", true),
            ("cluster c4 load=1000 free=1", true),
            ("annotate r retry=1", true),
            ("obey c2", true),
            ("obey c1", true),
        ],
    ),
    (
        "one that has yet to fetch it when the scale moves, and takes no place from who has it",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Label, key: load}, {by: StorageAvailable}]}\n  rollout: {prefetch: true, maxConcurrent: 1, steps: [{clusters: 2}]}",
        ],
        &[
            ("cluster c1 load=9 free=40", true),
            ("cluster c2 load=4 free=50", true),
            ("cluster c3 load=7 free=45", true),
            ("policy r version=2", true),
            ("obey", true),
            ("cluster c8 load=9 free=46", true),
            ("disconnect c7", true),
            ("cluster c4 load=1000 free=1", true),
            ("obey c3", true),
        ],
    ),
];
