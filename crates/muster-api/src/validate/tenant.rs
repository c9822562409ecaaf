//! Settings of tenants.

use muster_core::{AGING_STRICT, Millis, Name, Quota, RateLimit, TenantSettings};
use muster_proto::v1;

use super::field;
use super::limit::rate_limit;
use crate::errors::Violation;
use crate::limits::{GUARANTEED_SLOTS_MAX, PAYLOAD_BYTES_MAX, SPAN_MAX, WEIGHT_MAX};
use crate::reason::Reason;

/// A new tenant.
pub(crate) fn create_tenant(tenant: Option<v1::Tenant>) -> Result<(Name, TenantSettings), Violation> {
    let Some(tenant) = tenant else {
        return Err(field::required("tenant", "a tenant with a name"));
    };
    let name = own_name("tenant.name", &tenant.name)?;
    let defaults = TenantSettings::default();
    let settings = TenantSettings {
        weight: field::number("tenant.weight", tenant.weight, 1, WEIGHT_MAX, defaults.weight)?,
        aging: aging("tenant.", tenant.priority_order, tenant.aging.as_ref())?,
        payload_bytes_max: payload_bytes("tenant.payload_bytes_max", tenant.payload_bytes_max)?,
        quota: match &tenant.quota {
            Some(quota) => Quota {
                jobs_max: quota.jobs_max,
                bytes_max: quota.bytes_max,
                enqueue_rate: enqueue_rate("tenant.quota", quota.enqueue_rate.as_ref())?,
            },
            None => Quota::default(),
        },
        guaranteed_slots: guaranteed("tenant.guaranteed_slots", tenant.guaranteed_slots)?,
    };
    Ok((name, settings))
}

/// Changes of a tenant, to be made on its settings as they are.
pub(crate) fn update_tenant(
    request: &v1::UpdateTenantRequest,
    settings: &TenantSettings,
) -> Result<TenantSettings, Violation> {
    let mut settings = settings.clone();
    if let Some(weight) = request.weight {
        settings.weight = given(field::number("weight", weight, 1, WEIGHT_MAX, 0)?, "weight", WEIGHT_MAX)?;
    }
    if request.priority_order.is_some() || request.aging.is_some() {
        settings.aging = aging("", request.priority_order.unwrap_or_default(), request.aging.as_ref())?;
    }
    if let Some(bytes) = request.payload_bytes_max {
        settings.payload_bytes_max = payload_bytes("payload_bytes_max", bytes)?;
    }
    let quota = &mut settings.quota;
    quota.jobs_max = request.jobs_max.unwrap_or(quota.jobs_max);
    quota.bytes_max = request.bytes_max.unwrap_or(quota.bytes_max);
    match &request.enqueue_rate {
        Some(rate) if rate.count == 0 => quota.enqueue_rate = None,
        Some(rate) => quota.enqueue_rate = Some(rate_limit("enqueue_rate", rate)?),
        None => {}
    }
    if let Some(slots) = request.guaranteed_slots {
        settings.guaranteed_slots = guaranteed("guaranteed_slots", slots)?;
    }
    Ok(settings)
}

fn enqueue_rate(path: &str, rate: Option<&v1::RateLimit>) -> Result<Option<RateLimit>, Violation> {
    rate.map(|rate| rate_limit("enqueue_rate", rate).map_err(|violation| violation.within(path)))
        .transpose()
}

/// A name that a tenant may be given.
fn own_name(path: &str, value: &str) -> Result<Name, Violation> {
    let name = field::name(path, value)?;
    if name.starts_with('_') {
        let allowed = "a name that does not begin with _ (those are the cluster's own)";
        return Err(Violation::new(Reason::NameReserved, path, field::shown(value), allowed));
    }
    Ok(name)
}

/// Slots that a tenant is guaranteed; 0 is none.
fn guaranteed(path: &str, slots: u32) -> Result<u32, Violation> {
    if slots > GUARANTEED_SLOTS_MAX {
        let allowed = format!("0 to {GUARANTEED_SLOTS_MAX}");
        return Err(Violation::new(Reason::OutOfRange, path, slots.to_string(), allowed));
    }
    Ok(slots)
}

/// Refuses the 0 of a field whose absence already means "as it is".
fn given(value: u32, path: &str, most: u32) -> Result<u32, Violation> {
    if value == 0 {
        return Err(Violation::new(Reason::OutOfRange, path, "0", format!("1 to {most}")));
    }
    Ok(value)
}

/// What a priority level is worth, from the order and its aging. `path`: of the message that has them.
fn aging(path: &str, order: i32, aging: Option<&prost_types::Duration>) -> Result<Millis, Violation> {
    let default = TenantSettings::default().aging;
    let without = match v1::PriorityOrder::try_from(order) {
        Ok(v1::PriorityOrder::Unspecified | v1::PriorityOrder::Aging) => {
            return field::span(&format!("{path}aging"), aging, 1, SPAN_MAX, default);
        }
        Ok(v1::PriorityOrder::Strict) => AGING_STRICT,
        Ok(v1::PriorityOrder::Fifo) => 0,
        Err(_) => {
            return Err(Violation::new(
                Reason::EnumInvalid,
                format!("{path}priority_order"),
                order.to_string(),
                "1 (aging), 2 (strict) or 3 (fifo)",
            ));
        }
    };
    if aging.is_some() {
        return Err(Violation::new(
            Reason::FieldsExclusive,
            format!("{path}aging"),
            "given together with an order that has none",
            "one of them",
        ));
    }
    Ok(without)
}

fn payload_bytes(path: &str, bytes: u32) -> Result<u32, Violation> {
    field::number(
        path,
        bytes,
        1,
        PAYLOAD_BYTES_MAX,
        TenantSettings::default().payload_bytes_max,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(change: impl FnOnce(&mut v1::Tenant)) -> Result<(Name, TenantSettings), (String, Reason)> {
        let mut tenant = v1::Tenant {
            name: "acme".into(),
            ..Default::default()
        };
        change(&mut tenant);
        create_tenant(Some(tenant)).map_err(|violation| (violation.field, violation.reason))
    }

    fn refused(change: impl FnOnce(&mut v1::Tenant), field: &str, reason: Reason) {
        assert_eq!(tenant(change).expect_err("out of bounds"), (field.to_owned(), reason));
    }

    #[test]
    fn a_new_tenant_has_the_defaults() {
        assert_eq!(tenant(|_| {}).expect("valid").1, TenantSettings::default());
    }

    #[test]
    fn settings_keep_to_their_limits() {
        refused(|tenant| tenant.name.clear(), "tenant.name", Reason::NameInvalid);
        refused(
            |tenant| tenant.name = "_own".into(),
            "tenant.name",
            Reason::NameReserved,
        );
        refused(|tenant| tenant.weight = 10_001, "tenant.weight", Reason::OutOfRange);
        refused(
            |tenant| tenant.payload_bytes_max = (8 << 20) + 1,
            "tenant.payload_bytes_max",
            Reason::OutOfRange,
        );
        assert!(tenant(|tenant| tenant.payload_bytes_max = 8 << 20).is_ok());
        refused(
            |tenant| tenant.guaranteed_slots = 1_000_001,
            "tenant.guaranteed_slots",
            Reason::OutOfRange,
        );
        assert!(tenant(|tenant| tenant.guaranteed_slots = 1_000_000).is_ok());
        assert!(create_tenant(None).is_err());
        let rate = |count, burst| {
            let enqueue_rate = Some(v1::RateLimit {
                count,
                period: None,
                burst,
            });
            move |tenant: &mut v1::Tenant| {
                tenant.quota = Some(v1::Quota {
                    enqueue_rate,
                    ..Default::default()
                });
            }
        };
        refused(rate(0, 0), "tenant.quota.enqueue_rate.count", Reason::OutOfRange);
        refused(
            rate(1_000_000_001, 0),
            "tenant.quota.enqueue_rate.count",
            Reason::OutOfRange,
        );
        refused(
            rate(1, 1_000_000_001),
            "tenant.quota.enqueue_rate.burst",
            Reason::OutOfRange,
        );
    }

    #[test]
    fn priorities_have_an_order() {
        use v1::PriorityOrder::{Aging, Fifo, Strict};
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let aging = |order: i32, aging| {
            let settings = tenant(|tenant| (tenant.priority_order, tenant.aging) = (order, aging));
            settings.map(|(_, settings)| settings.aging)
        };
        assert_eq!(aging(0, None), Ok(30_000));
        assert_eq!(aging(Aging.into(), seconds(5)), Ok(5_000));
        assert_eq!(aging(Strict.into(), None), Ok(AGING_STRICT));
        assert_eq!(aging(Fifo.into(), None), Ok(0));
        let refused = |field: &str, reason| Err((field.to_owned(), reason));
        assert_eq!(
            aging(Fifo.into(), seconds(5)),
            refused("tenant.aging", Reason::FieldsExclusive)
        );
        assert_eq!(aging(0, seconds(0)), refused("tenant.aging", Reason::OutOfRange));
        assert_eq!(aging(9, None), refused("tenant.priority_order", Reason::EnumInvalid));
        let strict = TenantSettings {
            aging: AGING_STRICT,
            ..TenantSettings::default()
        };
        let update = |order, aging| {
            let request = v1::UpdateTenantRequest {
                priority_order: order,
                aging,
                ..Default::default()
            };
            update_tenant(&request, &strict).expect("valid").aging
        };
        assert_eq!(update(None, None), AGING_STRICT, "it stays");
        assert_eq!(update(None, seconds(2)), 2_000);
        assert_eq!(update(Some(Aging.into()), None), 30_000);
        assert_eq!(update(Some(Fifo.into()), None), 0);
    }

    #[test]
    fn an_update_changes_what_is_given() {
        let before = TenantSettings {
            payload_bytes_max: 4_096,
            ..TenantSettings::default()
        };
        let request = v1::UpdateTenantRequest {
            weight: Some(7),
            ..Default::default()
        };
        let after = update_tenant(&request, &before).expect("valid");
        assert_eq!(
            after,
            TenantSettings {
                weight: 7,
                ..before.clone()
            }
        );
        let quota = v1::UpdateTenantRequest {
            jobs_max: Some(9),
            enqueue_rate: Some(v1::RateLimit {
                count: 50,
                ..Default::default()
            }),
            ..Default::default()
        };
        let bounded = update_tenant(&quota, &before).expect("valid");
        let rate = RateLimit {
            count: 50,
            period: 1_000,
            burst: 50,
        };
        assert_eq!(
            bounded.quota,
            Quota {
                jobs_max: 9,
                bytes_max: 0,
                enqueue_rate: Some(rate)
            }
        );
        let unbounded = v1::UpdateTenantRequest {
            jobs_max: Some(0),
            enqueue_rate: Some(v1::RateLimit::default()),
            ..Default::default()
        };
        assert_eq!(update_tenant(&unbounded, &bounded).expect("valid"), before);
        let slots = |slots| v1::UpdateTenantRequest {
            guaranteed_slots: Some(slots),
            ..Default::default()
        };
        let sure = update_tenant(&slots(8), &before).expect("valid");
        assert_eq!(sure.guaranteed_slots, 8);
        assert_eq!(
            update_tenant(&request, &sure).expect("valid").guaranteed_slots,
            8,
            "it stays"
        );
        assert_eq!(update_tenant(&slots(0), &sure).expect("valid"), before);
        let many = update_tenant(&slots(1_000_001), &before).expect_err("too many");
        assert_eq!((&*many.field, many.reason), ("guaranteed_slots", Reason::OutOfRange));
        let zero = v1::UpdateTenantRequest {
            weight: Some(0),
            ..Default::default()
        };
        assert_eq!(update_tenant(&zero, &before).expect_err("0").reason, Reason::OutOfRange);
    }
}
