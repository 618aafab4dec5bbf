use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

const FULL: [u8; 1500] = [0; 1500];

fn dice() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// When each of `count` full packets arrives that all come at `now`.
fn arrivals(path: Path, count: usize, now: Instant) -> Vec<Duration> {
    let (mut queue, mut dice) = (Queue::new(path), dice());
    let fates = (0..count).map(|_| queue.accept(&FULL, now, &mut dice));
    fates
        .map(|fate| match fate {
            Fate::Due(due) => due - now,
            Fate::Lost | Fate::Overflowed => panic!("{fate:?}"),
        })
        .collect()
}

#[test]
fn packets_arrive_after_the_delay_and_their_turn() {
    let path = Path::default();
    let delayed = path.with_delay(ms(40)).unwrap();
    for (path, first, last) in [
        (path, ms(0), ms(0)),
        (delayed, ms(40), ms(40)),
        // 20 packets of 1500 bytes, 150,000 bytes a second.
        (path.with_rate(150_000).unwrap(), ms(10), ms(200)),
        (delayed.with_rate(150_000).unwrap(), ms(50), ms(240)),
        (path.with_rate(1_500_000).unwrap(), ms(1), ms(20)),
    ] {
        let due = arrivals(path, 20, Instant::now());
        assert_eq!((due[0], due[19]), (first, last), "{path:?}");
    }
}

#[test]
fn a_path_that_was_idle_owes_nothing() {
    let path = Path::default().with_rate(150_000).unwrap();
    let (mut queue, mut dice, start) = (Queue::new(path), dice(), Instant::now());
    queue.accept(&FULL, start, &mut dice);
    let later = start + ms(1000);
    let fate = queue.accept(&FULL, later, &mut dice);
    assert_eq!(fate, Fate::Due(later + ms(10)));
}

#[test]
fn jitter_varies_the_delay_and_keeps_the_order() {
    let path = Path::default().with_delay(ms(10)).unwrap();
    let path = path.with_jitter(ms(20)).unwrap();
    let (mut queue, mut dice, mut now) = (Queue::new(path), dice(), Instant::now());
    let mut last = now;
    let mut lateness = Vec::new();
    for _ in 0..1000 {
        now += ms(1);
        let Fate::Due(due) = queue.accept(&FULL, now, &mut dice) else {
            panic!("nothing is dropped");
        };
        assert!(due >= last);
        last = due;
        lateness.push(due - now);
        while queue.due(now).is_some() {}
    }
    let [least, most] = [lateness.iter().min(), lateness.iter().max()];
    assert!(*least.unwrap() >= ms(10) && *most.unwrap() <= ms(30));
    assert!(*most.unwrap() - *least.unwrap() > ms(10), "it varies");
}

#[test]
fn the_share_of_losses_is_the_one_asked_for() {
    for (loss, least, most) in [(0.0, 0, 0), (0.2, 1_900, 2_100), (1.0, 10_000, 10_000)] {
        let path = Path::default().with_loss(loss).unwrap();
        let (mut queue, mut dice, now) = (Queue::new(path), dice(), Instant::now());
        for _ in 0..10_000 {
            queue.accept(&FULL, now, &mut dice);
        }
        let Tally { carried, lost, .. } = queue.tally();
        assert!((least..=most).contains(&lost), "{lost} of loss {loss}");
        assert_eq!(carried + lost, 10_000);
    }
}

#[test]
fn packets_come_out_in_order_and_not_before_they_are_due() {
    let path = Path::default().with_delay(ms(10)).unwrap();
    let (mut queue, mut dice, start) = (Queue::new(path), dice(), Instant::now());
    for n in 0..4 {
        queue.accept(&[n], start + ms(u64::from(n)), &mut dice);
    }
    assert_eq!(queue.next_due(), Some(start + ms(10)));
    assert_eq!(queue.due(start + ms(9)), None);
    let mut out = Vec::new();
    while let Some(packet) = queue.due(start + ms(12)) {
        out.extend(packet);
    }
    assert_eq!(out, [0, 1, 2]);
    assert_eq!(queue.next_due(), Some(start + ms(13)));
}

#[test]
fn a_full_path_drops_what_comes_last_and_counts_it() {
    let path = Path::default().with_rate(1).unwrap();
    let (mut queue, mut dice, now) = (Queue::new(path), dice(), Instant::now());
    let room = path.buffer() / FULL.len();
    for n in 0..room + 5 {
        let fate = queue.accept(&FULL, now, &mut dice);
        assert_eq!(fate == Fate::Overflowed, n >= room, "packet {n}");
    }
    assert_eq!(queue.tally().overflowed, 5);
    let later = queue.next_due().unwrap();
    assert!(queue.due(later).is_some());
    let fate = queue.accept(&FULL, later, &mut dice);
    assert!(matches!(fate, Fate::Due(_)), "there is room again");
}

#[test]
fn a_tally_is_read_as_it_is_written() {
    let tally = Tally {
        carried: 12,
        lost: 3,
        overflowed: 4,
    };
    assert_eq!(tally.to_string(), "12 carried, 3 lost, 4 overflowed");
    assert_eq!(tally.to_string().parse::<Tally>().unwrap(), tally);
    assert!("nothing".parse::<Tally>().is_err());
}
