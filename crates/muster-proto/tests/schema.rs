//! Both interfaces only grow: every message, field, number, type and call that there was is there.
//!
//! Nodes of two versions speak with each other during a rolling upgrade, and clients are older or newer than the cluster.
//! `fixtures/schema.txt` has a line for each. A line that is gone or changed is a break; new ones are written by
//! `MUSTER_WRITE_FIXTURES=1 cargo nextest run -p muster-proto`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

fn of_message(package: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{package}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let repeated = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        lines.insert(format!(
            "field {name}.{} = {} {repeated}{kind}",
            field.name(),
            field.number()
        ));
    }
    for nested in &message.nested_type {
        of_message(&name, nested, lines);
    }
    for nested in &message.enum_type {
        of_enum(&name, nested, lines);
    }
}

fn of_enum(package: &str, list: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &list.value {
        lines.insert(format!(
            "value {package}.{}.{} = {}",
            list.name(),
            value.name(),
            value.number()
        ));
    }
}

fn schema() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let files = FileDescriptorSet::decode(muster_proto::DESCRIPTORS).unwrap().file;
    for file in files.iter().filter(|file| file.package().starts_with("muster.")) {
        for message in &file.message_type {
            of_message(file.package(), message, &mut lines);
        }
        for list in &file.enum_type {
            of_enum(file.package(), list, &mut lines);
        }
        for service in &file.service {
            for call in &service.method {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                lines.insert(format!(
                    "call {}.{}.{}({}{}) -> {}{}",
                    file.package(),
                    service.name(),
                    call.name(),
                    stream(call.client_streaming()),
                    call.input_type(),
                    stream(call.server_streaming()),
                    call.output_type()
                ));
            }
        }
    }
    lines
}

#[test]
fn the_interfaces_only_grow() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schema.txt");
    let now = schema();
    if std::env::var_os("MUSTER_WRITE_FIXTURES").is_some_and(|set| set == "1") {
        let mut text = now.iter().cloned().collect::<Vec<_>>().join("\n");
        text.push('\n');
        std::fs::write(&path, text).unwrap();
    }
    let known: BTreeSet<String> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let gone: Vec<_> = known.difference(&now).collect();
    assert!(
        gone.is_empty(),
        "gone or changed, so older programs are not understood any more: {gone:#?}"
    );
    let new: Vec<_> = now.difference(&known).collect();
    assert!(new.is_empty(), "not in fixtures/schema.txt yet: {new:#?}");
}
