use super::*;

#[test]
fn times_are_the_same_as_far_as_both_sides_keep_them() {
    let whole = Unsure::FRACTION;
    let exact = Unsure::default();
    for (told, unsure, is, same) in [
        ((10, 0), whole, (10, 0), true),
        ((10, 0), whole, (10, 999), true),
        ((11, 0), whole, (10, 600_000_000), true),
        ((11, 0), whole, (10, 400_000_000), false),
        ((10, 0), whole, (11, 0), false),
        ((10, 5), exact, (10, 5), true),
        ((10, 5), exact, (10, 0), true),
        ((10, 5), exact, (10, 6), false),
        ((-10, 0), whole, (0, 0), true),
        ((-10, 0), whole, (-10, 0), true),
        ((-10, 0), whole, (1, 0), false),
        ((i64::MAX, 0), whole, (0, 0), true),
    ] {
        let time = |(sec, nsec)| Timestamp::new(sec, nsec);
        let found = is_same_time(time(told), time(is), unsure);
        assert_eq!(found, same, "{told:?} {is:?}");
    }
}

#[test]
fn privileges_may_be_gone_only_where_an_owner_was_set_again() {
    let link = Unsure::PRIVILEGE;
    assert!(is_same_mode(0o4755, 0o4755, Unsure::default()));
    assert!(!is_same_mode(0o4755, 0o755, Unsure::default()));
    assert!(is_same_mode(0o4755, 0o755, link));
    assert!(!is_same_mode(0o755, 0o4755, link));
}
