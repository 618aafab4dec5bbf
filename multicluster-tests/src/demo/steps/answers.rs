//! What the test application and others print, read.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The JSON object in what `testapp get` printed.
pub(super) fn answer(text: &str) -> Result<Value> {
    text.lines()
        .filter_map(|line| line.find('{').map(|at| &line[at..]))
        .find_map(|json| serde_json::from_str(json).ok())
        .with_context(|| format!("no JSON in {text:?}"))
}

pub(super) fn answered_by(text: &str, cluster: &str) -> bool {
    answer(text).is_ok_and(|answer| answer["cluster"] == cluster)
}

pub(super) fn header(answer: &Value, name: &str) -> Option<String> {
    let headers = answer["headers"].as_array()?;
    headers.iter().find_map(|pair| {
        let (key, value) = (pair.get(0)?.as_str()?, pair.get(1)?.as_str()?);
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// The report of a load, in which no request failed.
pub(super) fn report(text: &str) -> Result<Value> {
    let line = text.lines().last().context("the load reports nothing")?;
    let report: Value = serde_json::from_str(line).context("the load's report")?;
    ensure!(
        report["failed"] == 0,
        "requests failed: {}",
        report["failures"]
    );
    Ok(report)
}

/// How many requests of a load `cluster` answered.
pub(super) fn answers_of(report: &Value, cluster: &str) -> u64 {
    report["clusters"][cluster].as_u64().unwrap_or_default()
}
