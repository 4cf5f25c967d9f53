//! What the API server checks beyond types and bounds, in CEL. [`crate::to_request`] refuses the same.

use serde_json::{Map, Value, json};

/// The container of an agent's pod that is the agent.
pub const AGENT_CONTAINER: &str = "agent";

/// A field that Boyle decides, and what to write instead.
pub(crate) struct Reserved {
    pub(crate) name: &'static str,
    /// Its type in the schema.
    pub(crate) kind: &'static str,
    pub(crate) remedy: &'static str,
}

const SERVICE_ACCOUNT: &str =
    "leave it out and annotate the deployment's own service account, NAME-agent";
const FOUND_BY_NAME: &str = "leave it out; agents are found by their pods' names";
const ENVIRONMENT: &str = "leave it out; write env to set what the agent reads";

/// Fields of the agents' pods that an overlay may not touch.
pub(crate) const POD_FIELDS_RESERVED: &[Reserved] = &[
    Reserved { name: "serviceAccountName", kind: "string", remedy: SERVICE_ACCOUNT },
    Reserved { name: "serviceAccount", kind: "string", remedy: SERVICE_ACCOUNT },
    Reserved {
        name: "automountServiceAccountToken",
        kind: "boolean",
        remedy: "leave it out; agents do not talk to the API server",
    },
    Reserved {
        name: "restartPolicy",
        kind: "string",
        remedy: "leave it out; agents are always restarted",
    },
    Reserved { name: "hostname", kind: "string", remedy: FOUND_BY_NAME },
    Reserved { name: "subdomain", kind: "string", remedy: FOUND_BY_NAME },
];

/// Fields of the container named "agent" that an overlay may not touch.
pub(crate) const AGENT_FIELDS_RESERVED: &[Reserved] = &[
    Reserved {
        name: "image",
        kind: "string",
        remedy: "leave it out and write the image in spec.image",
    },
    Reserved { name: "command", kind: "array", remedy: ENVIRONMENT },
    Reserved { name: "args", kind: "array", remedy: ENVIRONMENT },
    Reserved {
        name: "resources",
        kind: "object",
        remedy: "leave it out and write them in spec.agents.resources",
    },
    Reserved {
        name: "ports",
        kind: "array",
        remedy: "leave it out; routers and peers know the agent's ports",
    },
];

/// Prefixes of labels and annotations by which Boyle finds its pods.
pub(crate) const RESERVED_DOMAINS: &[&str] = &["boyle.dev/", "app.kubernetes.io/"];
/// Prefix of the variables by which the operator tells an agent who it is.
pub(crate) const RESERVED_VARIABLES: &str = "BOYLE_";

const WORD: &str = "[A-Za-z0-9._-]+";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const TAG: &str = "(:[A-Za-z0-9._-]{1,128})?(@sha256:[a-f0-9]{64})?";
const REPOSITORY: &str = "[a-z0-9._-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)+";

/// One rule at one place of the schema.
struct Rule {
    /// Properties from the root down; `[]` is an array's items.
    at: &'static str,
    rule: String,
    /// What to write instead.
    message: String,
    value: Shown,
    /// The field that is wrong, from there; the place itself when empty.
    field: String,
}

fn rule(at: &'static str, rule: impl Into<String>, message: impl Into<String>) -> Rule {
    let (rule, message) = (rule.into(), message.into());
    Rule { at, rule, message, value: Shown::Already, field: String::new() }
}

impl Rule {
    fn of(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    fn number(mut self, expression: &str) -> Self {
        self.value = Shown::Number(expression.to_owned());
        self
    }

    fn text(mut self, expression: &str) -> Self {
        self.value = Shown::Text(expression.to_owned());
        self
    }
}

/// The wrong value in a message, as CEL: beside a rule's `fieldPath` the API server shows none.
enum Shown {
    /// By the API server, or there is no single one.
    Already,
    Number(String),
    Text(String),
}

/// Puts the rules into the resource's schema.
pub(crate) fn add(schema: &mut Value) {
    let all = [model(), source(), agents(), durations(), pods(), rest()];
    for one in all.into_iter().flatten() {
        let Some(place) = place(schema, one.at) else {
            debug_assert!(false, "no {} in the schema", one.at);
            continue;
        };
        let mut rule = json!({"rule": one.rule, "message": one.message});
        let message = one.message.replace('\'', "\\'");
        match one.value {
            Shown::Already => (),
            // In one `format`: joining its result to more text is beyond CEL's budget.
            Shown::Number(number) => {
                rule["messageExpression"] = format!("'%d: {message}'.format([{number}])").into();
            }
            Shown::Text(text) => {
                rule["messageExpression"] = format!("'\"' + {text} + '\": {message}'").into();
            }
        }
        if !one.field.is_empty() {
            rule["fieldPath"] = one.field.into();
        }
        let rules = place.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        if let Value::Array(rules) = rules {
            rules.push(rule);
        }
    }
}

fn place<'a>(schema: &'a mut Value, at: &str) -> Option<&'a mut Map<String, Value>> {
    let mut value = schema;
    for step in at.split('.').filter(|it| !it.is_empty()) {
        value = match step {
            "[]" => value.get_mut("items")?,
            property => value.get_mut("properties")?.get_mut(property)?,
        };
    }
    value.as_object_mut()
}

/// `self.matches('^…$')`; what the expressions hold needs no quoting in CEL but backslashes.
fn matches(expression: &str) -> String {
    format!("self.matches('^{}$')", expression.replace('\\', "\\\\"))
}

fn source() -> Vec<Rule> {
    const AT: &str = "spec.model.source";
    let form = |scheme: &str, rest: &str, example: &str| {
        let matches = matches(&format!("{scheme}://{rest}"));
        rule(
            AT,
            format!("!self.startsWith('{scheme}://') || {matches}"),
            format!("write {example}"),
        )
    };
    vec![
        rule(
            AT,
            "self.matches('^(hf|pvc|s3|oci|file|embedded)://')",
            "write hf://owner/name, pvc://claim/path, s3://bucket/path, oci://registry/repository:tag, \
             file:///absolute/folder or embedded://tiny-r1",
        ),
        form(
            "hf",
            &format!("{WORD}/{WORD}"),
            "hf://owner/name, hf://deepseek-ai/DeepSeek-R1 for example",
        ),
        form("pvc", &format!("{SUBDOMAIN}(/.*)?"), "pvc://claim/path/in/it"),
        form("s3", &format!("{SUBDOMAIN}/.+"), "s3://bucket/path"),
        form("oci", &format!("{REPOSITORY}{TAG}"), "oci://registry/repository:tag"),
        form("file", "/.*", "file:///absolute/folder"),
        form("embedded", WORD, "embedded://tiny-r1"),
        rule(
            AT,
            r"!self.matches('(^|/)[.][.](/|$)') && !self.matches('\\p{Cc}')",
            "write a path without .. and without control characters",
        ),
    ]
}

fn model() -> Vec<Rule> {
    const AT: &str = "spec.model";
    let store = "(self.source.startsWith('hf://') || self.source.startsWith('s3://'))";
    vec![
        rule(
            "",
            "self.metadata.name.size() <= 36 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name: write 1 to 36 lower-case letters, digits and hyphens, first a letter, last no hyphen",
        )
        .text("self.metadata.name"),
        rule(
            AT,
            "!has(self.revision) || self.source.startsWith('hf://')",
            "leave it out, or write a source that begins with hf://; no other has revisions",
        )
        .of(".revision")
        .text("self.revision"),
        rule(
            "spec.model.revision",
            format!("{} && !self.contains('..')", matches("[A-Za-z0-9._/-]+")),
            "write a branch, tag or commit, main for example",
        ),
        rule(
            AT,
            format!("!has(self.secretName) || {store}"),
            "leave it out; only hf:// and s3:// sources take credentials",
        )
        .of(".secretName")
        .text("self.secretName"),
        rule(
            "spec.model.secretName",
            matches(SUBDOMAIN),
            "write the name of a Secret in this namespace, hub-token for example",
        ),
        rule(
            AT,
            format!("!has(self.endpoint) || {store}"),
            "leave it out; only hf:// and s3:// sources have an endpoint",
        )
        .of(".endpoint")
        .text("self.endpoint"),
        rule(
            "spec.model.endpoint",
            matches(r"https?://[^/\s\p{Z}\p{Cc}?#@]+(/[^\s\p{Z}\p{Cc}?#@]*)?"),
            "write a URL, https://hub.example.com for example",
        ),
    ]
}

fn agents() -> Vec<Rule> {
    const AT: &str = "spec.agents";
    let mut rules = vec![
        rule(
            AT,
            "!has(self.max) || self.max >= self.min",
            "write at least spec.agents.min, or lower that",
        )
        .of(".max")
        .number("self.max"),
        rule(
            AT,
            "!has(self.sleepAfter) || self.min == 0",
            "leave it out, or write 0 for spec.agents.min: only then may the deployment sleep",
        )
        .of(".sleepAfter")
        .text("self.sleepAfter"),
        rule(
            "spec.agents.accelerator.resource",
            matches(&format!("{SUBDOMAIN}/{WORD}")),
            "write an extended resource with its domain, nvidia.com/gpu for example",
        ),
        rule(
            "spec.agents.resources",
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || \
             quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "write at most the limit of the same resource, or raise that",
        )
        .of(".requests"),
    ];
    for part in ["limits", "requests"] {
        let given = format!("has(self.resources) && has(self.resources.{part})");
        let named = format!("self.accelerator.resource in self.resources.{part}");
        rules.push(
            rule(
                AT,
                format!("!(has(self.accelerator) && {given} && {named})"),
                "leave the resource that spec.agents.accelerator names out here",
            )
            .of(format!(".resources.{part}"))
            .text("self.accelerator.resource"),
        );
    }
    rules
}

fn durations() -> Vec<Rule> {
    // As many digits as 168h has in each unit, so that CEL can read them.
    let form = "self.matches('^0*([0-9]{1,9}ms|[0-9]{1,6}s|[0-9]{1,5}m|[0-9]{1,3}h)$')";
    let some = "!self.matches('^0+[a-z]+$') && duration(self) <= duration('168h')";
    [
        ("spec.agents.scaleDownDelay", "5m"),
        ("spec.agents.sleepAfter", "10m"),
        ("spec.objectives.timeToFirstToken", "2s"),
        ("spec.objectives.timePerOutputToken", "50ms"),
    ]
    .map(|(at, example)| {
        let message = format!(
            "write a number and ms, s, m or h, more than 0 and at most 168h, {example} for example"
        );
        rule(at, format!("{form} && {some}"), message)
    })
    .into()
}

fn pods() -> Vec<Rule> {
    const SPEC: &str = "spec.agents.template.spec";
    const CONTAINER: &str = "spec.agents.template.spec.containers.[]";
    let mut rules = Vec::new();
    for at in ["spec.agents.template.metadata.labels", "spec.agents.template.metadata.annotations"]
    {
        for domain in RESERVED_DOMAINS {
            rules.push(rule(
                at,
                format!("self.all(key, !key.startsWith('{domain}'))"),
                format!("leave out what begins with {domain}; Boyle finds its pods by it"),
            ));
        }
    }
    for Reserved { name, kind, remedy } in POD_FIELDS_RESERVED {
        let rule = rule(SPEC, format!("!has(self.{name})"), *remedy).of(format!(".{name}"));
        let is_text = *kind == "string";
        rules.push(if is_text { rule.text(&format!("self.{name}")) } else { rule });
    }
    rules.push(
        rule(
            CONTAINER,
            format!("self.name == '{AGENT_CONTAINER}' || has(self.image)"),
            format!(
                "write {AGENT_CONTAINER}, which is the agent itself, or give this container an image to run beside it"
            ),
        )
        .of(".name")
        .text("self.name"),
    );
    for Reserved { name, remedy, .. } in AGENT_FIELDS_RESERVED {
        let free = format!("self.name != '{AGENT_CONTAINER}' || !has(self.{name})");
        rules.push(rule(CONTAINER, free, *remedy).of(format!(".{name}")));
    }
    rules.push(
        rule(
            CONTAINER,
            format!(
                "self.name != '{AGENT_CONTAINER}' || !has(self.env) || \
                 self.env.all(one, !one.name.startsWith('{RESERVED_VARIABLES}'))"
            ),
            format!(
                "leave out variables that begin with {RESERVED_VARIABLES}; they are the operator's"
            ),
        )
        .of(".env"),
    );
    rules
}

fn rest() -> Vec<Rule> {
    let agents =
        "(has(self.agents.max) ? self.agents.max : (self.agents.min > 0 ? self.agents.min : 1))";
    vec![
        rule(
            "spec",
            format!("self.experts.copies <= {agents}"),
            "write at most the number of agents (spec.agents.max, or min without it), or raise that",
        )
        .of(".experts.copies")
        .number("self.experts.copies"),
        rule(
            "spec.router",
            "!has(self.max) || self.max >= self.min",
            "write at least spec.router.min, or lower that",
        )
        .of(".max")
        .number("self.max"),
        rule(
            "spec.cost.acceleratorHour",
            matches("[0-9]{1,12}([.][0-9]{1,6})?"),
            "write digits with a point and at most six digits after it, 2.00 for example",
        ),
        rule(
            "spec.cost.currency",
            matches("[A-Z]{3}"),
            "write a code of three capital letters, USD for example",
        ),
        rule(
            "spec.cost.compareWith",
            matches(&format!("{WORD}(/[A-Za-z0-9._:-]+)+")),
            "write vendor/model, openai/o1 for example",
        ),
        rule(
            "spec.image",
            matches(&format!("({REPOSITORY}|[a-z0-9._-]+){TAG}")),
            "write registry/repository:tag, registry.example.com/boyle/serving:1.2.3 for example",
        ),
    ]
}
