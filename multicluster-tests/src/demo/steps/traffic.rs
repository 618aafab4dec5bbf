//! Requests that find their way: across, over, and in shares.

use anyhow::{Result, ensure};

use super::{
    super::show::Stage,
    CLIENT, PATIENCE,
    answers::{answer, answered_by, answers_of, header, report},
};

pub(super) fn cross(stage: &Stage) -> Result<()> {
    // Pods learn the DNS rule of the link when CoreDNS has read it.
    for url in ["http://web-east", "http://web.east"] {
        stage.until(
            &format!("{url} answers"),
            PATIENCE,
            &format!("{CLIENT} get {url}"),
            |_| true,
        )?;
        let text = stage.run(&format!("{CLIENT} get {url}"))?;
        let answer = answer(&text)?;
        ensure!(
            answer["cluster"] == "east",
            "the answer comes from {}",
            answer["cluster"]
        );
        ensure!(
            header(&answer, "l5d-client-id").as_deref() == Some("spiffe://west/ns/shop/sa/client"),
            "east does not see the client's identity"
        );
    }
    Ok(())
}

pub(super) fn redis(stage: &Stage) -> Result<()> {
    let talk = "kubectl --context west -n shop exec deploy/tools -c tools -- sh -c \
                \"printf 'SET greeting hello\\r\\nGET greeting\\r\\nQUIT\\r\\n' \
                | busybox nc redis-east 6379\"";
    stage.until("redis-east answers", PATIENCE, talk, |said| {
        said.contains("+OK")
    })?;
    let said = stage.run(talk)?;
    ensure!(said.contains("hello"), "redis does not give back the value");
    Ok(())
}

pub(super) fn fail_over(stage: &Stage) -> Result<()> {
    stage.run("kubectl --context west apply -f split-west.yaml")?;
    stage.until(
        "web is answered by east",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "east"),
    )?;
    let load = stage.start(&format!(
        "{CLIENT} load http://web --rate 100 --duration 30s --json"
    ))?;
    stage.run("kubectl --context east -n shop scale deploy/web --replicas=0")?;
    stage.until(
        "web is answered by west",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "west"),
    )?;
    stage.run("kubectl --context east -n shop scale deploy/web --replicas=2")?;
    stage.until(
        "web is answered by east again",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "east"),
    )?;
    let output = load.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("   {}", text.trim());
    let report = report(&text)?;
    for cluster in ["east", "west"] {
        let answers = answers_of(&report, cluster);
        ensure!(answers > 0, "no request was answered by {cluster}");
    }
    Ok(())
}

pub(super) fn canary(stage: &Stage) -> Result<()> {
    stage.run("kubectl --context west -n shop delete trafficsplit web")?;
    stage.run("kubectl --context west apply -f canary-west.yaml")?;
    let some = format!("{CLIENT} load http://web --rate 100 --duration 1s --json");
    stage.until("east has a share", PATIENCE, &some, |text| {
        report(text).is_ok_and(|report| {
            let (east, west) = (answers_of(&report, "east"), answers_of(&report, "west"));
            0 < east && east < west
        })
    })?;
    let text = stage.run(&format!(
        "{CLIENT} load http://web --rate 100 --duration 10s --json"
    ))?;
    let report = report(&text)?;
    let (east, west) = (answers_of(&report, "east"), answers_of(&report, "west"));
    stage.say(&format!("{east} answered by east, {west} by west"));
    // Of 1000 with a chance of 1 in 10: five standard deviations on either side.
    ensure!((52..=148).contains(&east), "that is not one of ten");
    stage.run("kubectl --context west -n shop delete trafficsplit web")?;
    Ok(())
}
