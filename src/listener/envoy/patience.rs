//! How long a check may wait, where a policy delays.
//!
//! Envoy gives a check a deadline (`grpc_service.timeout` of its filter, 200 ms unless
//! set) and lets its failure mode decide when that has passed: a limit that is answered
//! too late is a limit that does not hold. So a check waits for three quarters of its
//! deadline at most; what would take longer is refused at once. A check without a
//! deadline waits as long as the policy says.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long a check of this metadata may wait.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    let field = metadata.get("grpc-timeout").and_then(|it| it.to_str().ok());
    field.and_then(deadline).map_or(Duration::MAX, |deadline| deadline / 4 * 3)
}

/// A `grpc-timeout`: up to eight digits and a unit.
fn deadline(field: &str) -> Option<Duration> {
    let (digits, unit) = field.split_at_checked(field.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.checked_mul(3_600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_waits_for_three_quarters_of_its_deadline() {
        let of = |field: Option<&'static str>| {
            let mut metadata = MetadataMap::new();
            if let Some(field) = field {
                metadata.insert("grpc-timeout", field.parse().unwrap());
            }
            patience(&metadata)
        };
        assert_eq!(of(Some("200m")), Duration::from_millis(150));
        assert_eq!(of(Some("2S")), Duration::from_millis(1_500));
        assert_eq!(of(Some("400000u")), Duration::from_millis(300));
        for none in [None, Some("soon"), Some("5"), Some("m")] {
            assert_eq!(of(none), Duration::MAX, "{none:?}");
        }
    }
}
