//! CEL over a cluster: compiled once for each policy, evaluated for each cluster under a cost limit.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use cel::{
    Context, Env, ExecutionError, Program, Value,
    common::{
        types::{CelBool, CelList, CelMap},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use nave_crds::{AcceleratorStatus, Capacity, RuntimeStatus, Storage};
use serde::Serialize;

use super::cel_cost::{self, Sizes};
use crate::input::Cluster;

/// Longest expression, in bytes. Admission has the same limit; the parser's time grows faster than the length.
const LONGEST: usize = 4096;

/// Most operators of one expression. The parser recurses for each operand of a chain such as `1 + 1 + 1`, without a limit
/// of its own; a thread's stack of 2 MiB ends between 500 and 1,000 in a debug build.
const MOST_OPERATORS: usize = 250;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// The expressions of one policy, which must all hold.
#[derive(Debug, Default)]
pub(crate) struct Expressions(Vec<Expression>);

#[derive(Debug)]
struct Expression {
    program: Program,
    text: Arc<str>,
}

/// An expression that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CelProblem {
    index: usize,
    line: isize,
    column: isize,
    message: String,
}

impl fmt::Display for CelProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, line, column, message } = self;
        write!(f, "spec.placement.cel[{index}]:{line}:{column}: {message}")
    }
}

/// What the expressions say of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    True,
    /// Which one is false.
    False(Arc<str>),
    /// Which one could not say, and why.
    Error(String),
}

impl Expressions {
    /// Compiles all of them, or names the first that cannot be.
    pub(crate) fn compile(texts: &[String]) -> Result<Self, CelProblem> {
        texts.iter().enumerate().map(|(index, text)| compile(index, text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether all hold; like `&&`, one that is false outweighs one that cannot say.
    pub(crate) fn judge(&self, cluster: &Cluster) -> Verdict {
        let mut verdict = Verdict::True;
        for expression in &self.0 {
            match expression.holds(cluster) {
                Ok(true) => {}
                Ok(false) => return Verdict::False(Arc::clone(&expression.text)),
                Err(error) => {
                    if verdict == Verdict::True {
                        verdict = Verdict::Error(format!("{}: {error}", expression.text));
                    }
                }
            }
        }
        verdict
    }
}

fn compile(index: usize, text: &str) -> Result<Expression, CelProblem> {
    let problem =
        |(line, column): (isize, isize), message: String| CelProblem { index, line, column, message };
    if text.len() > LONGEST {
        return Err(problem((1, 1), format!("longer than {LONGEST} bytes")));
    }
    if operators(text) > MOST_OPERATORS {
        return Err(problem((1, 1), format!("more than {MOST_OPERATORS} operators")));
    }
    let program = Program::compile(text).map_err(|errors| match errors.errors.first() {
        Some(first) => problem(first.pos, first.msg.clone()),
        None => problem((1, 1), errors.to_string()),
    })?;
    cel_cost::check(program.expression(), &Sizes::USUAL).map_err(|fault| {
        let offset = program.source_info().offset_for(fault.node).map_or(0, |(start, _)| start as usize);
        problem(position(text, offset), fault.message)
    })?;
    Ok(Expression { program, text: shortened(text).into() })
}

/// Signs that begin or join an operand, outside of texts in quotes.
fn operators(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut count = 0;
    for c in text.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => count += usize::from("+-*/%<>=!.[({?&|".contains(c)),
        }
    }
    count
}

/// Line and column, from 1, of a character offset.
fn position(text: &str, offset: usize) -> (isize, isize) {
    let (mut line, mut column) = (1, 1);
    for c in text.chars().take(offset) {
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    (line, column)
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 120;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain("...".chars()).collect()
}

impl Expression {
    fn holds(&self, cluster: &Cluster) -> Result<bool, String> {
        let value = cluster.cel.get(cluster)?;
        if !value.sizes.within(&Sizes::USUAL) {
            cel_cost::check(self.program.expression(), &value.sizes).map_err(|fault| fault.message)?;
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(value);
        let result =
            Value::resolve_val(self.program.expression(), &context).map_err(|error| error.to_string())?;
        match result.downcast_ref::<CelBool>() {
            Some(holds) => Ok(*holds.inner()),
            None => Err(format!("the result is {}, not a boolean", result.get_type().name())),
        }
    }
}

/// What expressions see of a cluster, built when the first of them looks.
#[derive(Debug, Default)]
pub(crate) struct CelCluster(OnceLock<Result<CelView, String>>);

#[derive(Debug)]
struct CelView {
    value: Box<dyn Val>,
    sizes: Sizes,
}

impl VariableResolver for CelView {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        (variable == "cluster").then(|| CowVal::Borrowed(self.value.as_ref()))
    }
}

impl CelCluster {
    fn get(&self, cluster: &Cluster) -> Result<&CelView, String> {
        let view = self.0.get_or_init(|| {
            let facts = cluster.object.status.as_ref().map(|status| &status.facts);
            let none = BTreeMap::new();
            let seen = Seen {
                name: &cluster.name,
                labels: cluster.labels(),
                facts: facts.unwrap_or(&none),
                capacity: SeenCapacity::of(cluster.capacity()),
            };
            let sizes = Sizes::of(seen.labels, seen.facts, cluster.capacity());
            let value = cel::to_value(&seen).map_err(|error| error.to_string())?;
            Ok(CelView { value: as_val(value).map_err(|error| error.to_string())?, sizes })
        });
        view.as_ref().map_err(Clone::clone)
    }
}

/// The value as the interpreter has it. The crate's own conversion copies each map once for every map it is in.
fn as_val(value: Value) -> Result<Box<dyn Val>, ExecutionError> {
    #[allow(clippy::wildcard_enum_match_arm)] // Not our enum: what holds no others is the crate's to convert.
    match value {
        Value::Map(map) => {
            let entries = Arc::unwrap_or_clone(map.map).into_iter();
            let entries = entries.map(|(key, value)| Ok((key.into(), as_val(value)?)));
            #[allow(clippy::disallowed_types)] // The interpreter's own; nothing here walks over it.
            let entries = entries.collect::<Result<std::collections::HashMap<_, _>, ExecutionError>>()?;
            Ok(Box::new(CelMap::from(entries)))
        }
        Value::List(list) => {
            let elements = Arc::unwrap_or_clone(list).into_iter().map(as_val);
            Ok(Box::new(CelList::from(elements.collect::<Result<Vec<_>, _>>()?)))
        }
        plain => plain.try_into(),
    }
}

/// The variable `cluster`. What was never reported is an absent key.
#[derive(Serialize)]
struct Seen<'a> {
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
    facts: &'a BTreeMap<String, String>,
    capacity: SeenCapacity<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenCapacity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<&'a Storage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerators: Option<&'a [AcceleratorStatus]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtimes: Option<&'a [RuntimeStatus]>,
}

impl<'a> SeenCapacity<'a> {
    /// A spoke that reported its capacity said which accelerators and runtimes it has, be it none.
    fn of(capacity: Option<&'a Capacity>) -> Self {
        let Some(capacity) = capacity else { return Self::default() };
        Self {
            architecture: capacity.architecture.as_deref(),
            cpu: capacity.cpu,
            memory_bytes: capacity.memory_bytes,
            storage: capacity.storage.as_ref(),
            accelerators: Some(&capacity.accelerators),
            runtimes: Some(&capacity.runtimes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let object: nave_crds::EdgeCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster",
            "metadata": {"name": "a", "labels": {"region": "eu", "site": "x"}},
            "spec": {"accepted": true},
            "status": {
                "facts": {"line": "7"},
                "capacity": {"architecture": "amd64", "cpu": 8, "memoryBytes": 100,
                    "accelerators": [{"vendor": "nvidia", "model": "t4", "usable": true, "memoryBytes": 16},
                                     {"vendor": "intel", "model": "x", "usable": false}]},
            },
        }))
        .unwrap();
        Cluster::new("a", Arc::new(object))
    }

    fn judge(text: &str) -> Verdict {
        Expressions::compile(&[text.to_owned()]).unwrap().judge(&cluster())
    }

    #[test]
    fn expressions_see_what_was_reported() {
        for text in [
            "true",
            "cluster.name == 'a'",
            "cluster.labels.region == 'eu'",
            "cluster.labels['region'] in ['eu', 'us']",
            "!has(cluster.labels.zone)",
            "cluster.facts.line == '7' && int(cluster.facts.line) > 6",
            "cluster.capacity.architecture == 'amd64'",
            "cluster.capacity.cpu >= 8 && cluster.capacity.memoryBytes < 101",
            "cluster.capacity.accelerators.exists(a, a.vendor == 'nvidia' && a.memoryBytes >= 16)",
            "cluster.capacity.accelerators.exists(a, a.memoryBytes >= 16)",
            "size(cluster.capacity.runtimes) == 0",
            "!has(cluster.capacity.storage)",
            "cluster.labels.all(k, k.matches('^[a-z]+$'))",
        ] {
            assert_eq!(judge(text), Verdict::True, "{text}");
        }
        for text in ["false", "cluster.capacity.cpu > 8", "cluster.name.startsWith('b')"] {
            assert_eq!(judge(text), Verdict::False(text.into()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_an_error_that_and_and_or_absorb() {
        for text in [
            "cluster.labels.zone == 'b'",
            "1",
            "cluster.name",
            "cluster.capacity.storage.totalBytes > 1",
            "cluster.labels.zone == 'b' && true",
            "cluster.labels.zone == 'b' || false",
            "null",
            "1 / 0 == 1",
        ] {
            assert!(matches!(judge(text), Verdict::Error(_)), "{text}: {:?}", judge(text));
        }
        assert!(matches!(judge("cluster.labels.zone == 'b' && false"), Verdict::False(_)));
        assert!(matches!(judge("false && cluster.labels.zone == 'b'"), Verdict::False(_)));
        assert_eq!(judge("cluster.labels.zone == 'b' || true"), Verdict::True);
        let both = ["cluster.labels.zone == 'b'".to_owned(), "false".to_owned()];
        assert!(matches!(Expressions::compile(&both).unwrap().judge(&cluster()), Verdict::False(_)));
    }

    #[test]
    fn what_does_not_compile_has_a_position() {
        for (text, start) in [
            ("cluster.labels[", "spec.placement.cel[0]:1:"),
            ("true &&\n  fleet.size == 1", "spec.placement.cel[0]:2:3: undeclared variable fleet"),
            ("cluster.name ==", "spec.placement.cel[0]:1:"),
        ] {
            let problem = Expressions::compile(&[text.to_owned()]).unwrap_err().to_string();
            assert!(problem.starts_with(start), "{text}: {problem}");
        }
        assert!(Expressions::compile(&["x".repeat(5000)]).is_err());
        assert!(Expressions::compile(&[format!("0{} > 0", "+1".repeat(MOST_OPERATORS - 1))]).is_err());
        assert!(Expressions::compile(&[format!("0{} > 0", "+1".repeat(2000))]).is_err());
        let names = (0..300).map(|n| format!("'a.{n}'")).collect::<Vec<_>>().join(",");
        assert!(Expressions::compile(&[format!("cluster.name in [{names}]")]).is_ok());
        assert!(Expressions::compile(&[format!("{}true{}", "(".repeat(300), ")".repeat(300))]).is_err());
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        let doubling = format!("['aaaa']{}.size() > 0", ".map(x, x + x)".repeat(40));
        let nested = "cluster.labels.all(a, cluster.labels.all(b, cluster.labels.all(c, cluster.labels.all(d, true))))";
        let repeated = ["cluster.labels.all(key, key.matches('^[a-z0-9]+$'))"; 4].join(" && ");
        for (text, why) in [
            (doubling.as_str(), "its result may become too large"),
            (nested, "its result may become too large"),
            (&repeated, "costs up to "),
            (
                "cluster.name.matches('(a{1000}){1000}')",
                "the pattern of matches() repeats more than 64 times",
            ),
            (
                "cluster.name.matches(cluster.labels.region)",
                "the pattern of matches() must be written as a text",
            ),
        ] {
            let problem = Expressions::compile(&[text.to_owned()]).unwrap_err();
            assert!(problem.message.starts_with(why), "{text}: {problem}");
        }
    }

    #[test]
    fn a_larger_cluster_is_judged_by_its_own_size() {
        let text = "cluster.labels.all(key, key.matches('^[a-z0-9]+$'))".to_owned();
        let expressions = Expressions::compile(&[text]).unwrap();
        assert_eq!(expressions.judge(&cluster()), Verdict::True);
        let mut large = (*cluster().object).clone();
        large.metadata.labels = Some((0..1000).map(|n| (format!("l{n}"), String::new())).collect());
        let Verdict::Error(why) = expressions.judge(&Cluster::new("a", Arc::new(large))) else { panic!() };
        assert!(why.ends_with("its result may become too large"), "{why}");
    }
}
