//! An upper bound of what evaluating a CEL expression costs, found by walking its tree once. The library has no limit of
//! its own: nested macros multiply, and chained ones can double a text until memory ends.

use std::collections::BTreeMap;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue},
};
use nave_crds::Capacity;

/// Most steps of one evaluation. A step is a node evaluated or 64 bytes looked at, some tens of nanoseconds: one cluster
/// costs at most a few milliseconds, where every expression seen in practice stays under a few hundred steps.
const MOST_STEPS: u64 = 50_000;
/// Deepest tree; evaluation recurses, and a thread of a test or of tokio has 2 MiB of stack.
const DEEPEST: usize = 100;
/// Longest regular expression, and most repetitions in one: the library compiles it anew for each evaluation.
const LONGEST_PATTERN: usize = 256;
const MOST_REPETITIONS: u64 = 64;
/// What compiling a regular expression costs, in steps.
const PATTERN_STEPS: u64 = 500;

/// How large the parts of a cluster are, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    labels: u64,
    facts: u64,
    devices: u64,
}

impl Sizes {
    /// What an expression is judged by when it is compiled; a larger cluster is judged by its own sizes.
    pub(crate) const USUAL: Self = Self { labels: 32, facts: 32, devices: 16 };

    pub(crate) fn of(
        labels: &BTreeMap<String, String>,
        facts: &BTreeMap<String, String>,
        capacity: Option<&Capacity>,
    ) -> Self {
        let devices = capacity.map_or(0, |capacity| capacity.accelerators.len() + capacity.runtimes.len());
        Self { labels: labels.len() as u64, facts: facts.len() as u64, devices: devices as u64 }
    }

    pub(crate) fn within(&self, other: &Self) -> bool {
        self.labels <= other.labels && self.facts <= other.facts && self.devices <= other.devices
    }

    fn all(&self) -> u64 {
        16 + self.labels + self.facts + 8 * self.devices
    }
}

/// Why an expression is not evaluated, and at which node.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) node: u64,
    pub(crate) message: String,
}

/// Upper bounds: steps to evaluate, and the size of the result.
#[derive(Clone, Copy)]
struct Bound {
    steps: u64,
    size: u64,
}

/// Checks an expression: every variable declared, not too deep, not too costly.
pub(crate) fn check(expression: &IdedExpr, sizes: &Sizes) -> Result<(), Fault> {
    let bound = Walk { sizes, variables: Vec::new(), depth: 0 }.bound(expression)?;
    if bound.steps > MOST_STEPS {
        return Err(fault(expression, format!("costs up to {} steps, more than {MOST_STEPS}", bound.steps)));
    }
    Ok(())
}

fn fault(expression: &IdedExpr, message: impl Into<String>) -> Fault {
    Fault { node: expression.id, message: message.into() }
}

/// Names of types, which are values too.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "dyn"];

struct Walk<'a> {
    sizes: &'a Sizes,
    variables: Vec<(&'a str, u64)>,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn bound(&mut self, expression: &'a IdedExpr) -> Result<Bound, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(fault(expression, format!("nested more than {DEEPEST} deep")));
        }
        let bound = self.node(expression)?;
        self.depth -= 1;
        if bound.size > MOST_STEPS {
            return Err(fault(expression, "its result may become too large"));
        }
        Ok(bound)
    }

    fn node(&mut self, expression: &'a IdedExpr) -> Result<Bound, Fault> {
        match &expression.expr {
            Expr::Unspecified => Ok(Bound { steps: 1, size: 1 }),
            Expr::Literal(literal) => Ok(Bound { steps: 1, size: literal_size(literal) }),
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Select(select) => {
                if let Some(size) = self.part(expression) {
                    return Ok(Bound { steps: 3, size });
                }
                let operand = self.bound(&select.operand)?;
                Ok(Bound { steps: operand.steps + 1, size: operand.size })
            }
            Expr::Call(call) => {
                if call.func_name == "matches" {
                    check_pattern(expression, call.args.last())?;
                }
                // `optional.of(x)`: the target spells the function's name, not a variable.
                let named = |e: &&IdedExpr| !matches!(&e.expr, Expr::Ident(name) if name == "optional");
                let operands: Vec<_> =
                    call.target.as_deref().filter(named).into_iter().chain(&call.args).collect();
                let sum = self.sum(operands)?;
                let extra = if call.func_name == "matches" { PATTERN_STEPS } else { 0 };
                Ok(Bound { steps: sum.steps.saturating_add(extra + sum.size / 64), size: sum.size })
            }
            Expr::List(list) => self.sum(list.elements.iter().collect()),
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(structure) => self.entries(structure.entries.iter().map(|entry| &entry.expr)),
            Expr::Comprehension(_) => self.comprehension(expression),
        }
    }

    fn variable(&self, expression: &IdedExpr, name: &str) -> Result<Bound, Fault> {
        let local = self.variables.iter().rev().find(|(variable, _)| *variable == name);
        let size = match local {
            Some((_, size)) => *size,
            None if name == "cluster" => self.sizes.all(),
            None if TYPES.contains(&name) => 1,
            None => return Err(fault(expression, format!("undeclared variable {name}"))),
        };
        Ok(Bound { steps: 1, size })
    }

    /// The size of `cluster.labels` and the like.
    fn part(&self, expression: &IdedExpr) -> Option<u64> {
        let Expr::Select(select) = &expression.expr else { return None };
        if self.is_cluster(&select.operand) {
            return match select.field.as_str() {
                "name" => Some(4),
                "labels" => Some(self.sizes.labels + 1),
                "facts" => Some(self.sizes.facts + 1),
                _ => None,
            };
        }
        let Expr::Select(inner) = &select.operand.expr else { return None };
        (inner.field == "capacity" && self.is_cluster(&inner.operand)).then_some(self.sizes.devices + 8)
    }

    /// Whether this is the variable `cluster`, not one of a macro's of the same name.
    fn is_cluster(&self, expression: &IdedExpr) -> bool {
        matches!(&expression.expr, Expr::Ident(name) if name == "cluster")
            && !self.variables.iter().any(|(variable, _)| *variable == "cluster")
    }

    fn sum(&mut self, parts: Vec<&'a IdedExpr>) -> Result<Bound, Fault> {
        let mut sum = Bound { steps: 1, size: 1 };
        for part in parts {
            let bound = self.bound(part)?;
            sum.steps = sum.steps.saturating_add(bound.steps);
            sum.size = sum.size.saturating_add(bound.size);
        }
        Ok(sum)
    }

    fn entries(&mut self, entries: impl Iterator<Item = &'a EntryExpr>) -> Result<Bound, Fault> {
        let parts = entries.flat_map(|entry| match entry {
            EntryExpr::StructField(field) => vec![&field.value],
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        });
        self.sum(parts.collect())
    }

    /// What macros expand to. The accumulator grows by at most one result of the step for each round, because no macro's
    /// step names it twice, and `@result` cannot be written by a user.
    fn comprehension(&mut self, expression: &'a IdedExpr) -> Result<Bound, Fault> {
        let Expr::Comprehension(fold) = &expression.expr else { return Ok(Bound { steps: 1, size: 1 }) };
        let range = self.bound(&fold.iter_range)?;
        let start = self.bound(&fold.accu_init)?;
        let before = self.variables.len();
        self.variables.push((&fold.iter_var, range.size));
        if let Some(second) = &fold.iter_var2 {
            self.variables.push((second, range.size));
        }
        self.variables.push((&fold.accu_var, 1));
        let condition = self.bound(&fold.loop_cond)?;
        let step = self.bound(&fold.loop_step)?;
        let result = self.bound(&fold.result)?;
        self.variables.truncate(before);
        let round = condition.steps.saturating_add(step.steps).saturating_add(2);
        Ok(Bound {
            steps: range
                .steps
                .saturating_add(start.steps)
                .saturating_add(result.steps)
                .saturating_add(range.size.saturating_mul(round)),
            size: start.size.saturating_add(range.size.saturating_mul(step.size)),
        })
    }
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => 1 + text.inner().len() as u64,
        LiteralValue::Bytes(bytes) => 1 + bytes.inner().len() as u64,
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => 1,
    }
}

/// A pattern is written out, short, and repeats nothing very often.
fn check_pattern(call: &IdedExpr, pattern: Option<&IdedExpr>) -> Result<(), Fault> {
    let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(text)), .. }) = pattern else {
        return Err(fault(call, "the pattern of matches() must be written as a text"));
    };
    let text = text.inner();
    if text.len() > LONGEST_PATTERN {
        return Err(fault(call, format!("the pattern of matches() is longer than {LONGEST_PATTERN} bytes")));
    }
    let mut repetitions: u64 = 1;
    for part in text.split('{').skip(1) {
        let digits = part.split('}').next().unwrap_or_default();
        let most =
            digits.split(',').filter_map(|number| number.trim().parse::<u64>().ok()).max().unwrap_or(1);
        repetitions = repetitions.saturating_mul(most.max(1));
    }
    if repetitions > MOST_REPETITIONS {
        return Err(fault(
            call,
            format!("the pattern of matches() repeats more than {MOST_REPETITIONS} times"),
        ));
    }
    Ok(())
}
