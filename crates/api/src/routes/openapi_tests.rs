//! The document says what the table of routes and the parsers do.

use super::openapi::{common, document};
use super::{ENDPOINTS, docs};
use crate::access::Access;
use crate::input::body;
use crate::problem::ProblemType;
use domain::{Currency, Money, NewProduct, ProductId, Sku, price_rows};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Method, template and operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone();
        methods.into_iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn its_operations_are_the_routes_and_have_all_of_their_statuses() {
    let document = document();
    let operations = operations(&document);
    let documented: BTreeSet<_> = operations.iter().map(|(method, path, _)| (method.as_str(), path.as_str())).collect();
    assert_eq!(documented, ENDPOINTS.iter().map(|endpoint| (endpoint.spec.method, endpoint.spec.route)).collect());
    for (method, path, operation) in &operations {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.spec.method == method && endpoint.spec.route == path).unwrap();
        let scoped = !matches!(endpoint.access, Access::Public);
        let served = endpoint.spec.statuses.iter().copied().chain(common(scoped));
        let served: BTreeSet<_> = served.map(|status| status.to_string()).collect();
        let documented: BTreeSet<_> = operation["responses"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(documented, served, "{method} {path}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_a_summary_and_a_known_tag() {
    let document = document();
    let tags: BTreeSet<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).map(Value::to_string).collect();
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.ends_with('.')), "{method} {path} {}", operation["summary"]);
        assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(&tag.to_string())), "{method} {path}");
    }
}

#[test]
fn every_refusal_is_a_problem_and_the_types_that_it_names_exist_with_its_status() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = match response["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => response,
            };
            assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            let description = response["description"].as_str().unwrap();
            if status.as_str() < "400" {
                continue;
            }
            assert!(response["content"]["application/problem+json"].is_object(), "{method} {path} {status}");
            let named: Vec<_> = description.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{method} {path} {status}");
            for slug in named {
                let kind = ProblemType::find(slug).unwrap_or_else(|| panic!("{method} {path} {status} names {slug}"));
                assert_eq!(kind.status.to_string(), *status, "{method} {path} names {slug}");
            }
        }
    }
}

#[test]
fn requests_are_closed_forms_with_the_limits_that_are_enforced() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (method, path, operation) in operations(&document) {
        let forms = operation["requestBody"]["content"].as_object().cloned().unwrap_or_default();
        for (media_type, form) in forms {
            let example = &form["examples"]["example"]["value"];
            assert!(if media_type == "text/csv" { example.is_string() } else { example.is_object() }, "{method} {path} {media_type}");
        }
    }
    for name in [
        "NewProduct",
        "NewMoney",
        "NewPrice",
        "NewPrices",
        "NewBatchPrice",
        "Viewed",
        "NewViews",
        "Event",
        "NewCount",
        "NewAdjustment",
        "NewReservation",
        "ReservationItem",
    ] {
        assert_eq!(schemas[name]["additionalProperties"], json!(false), "{name}");
    }
    let parameter = |name: &str| {
        let parameters = document["paths"]["/v1/products"]["get"]["parameters"].as_array().unwrap();
        parameters.iter().find(|parameter| parameter["name"] == name).unwrap()["schema"].clone()
    };
    for (documented, enforced) in [
        (&schemas["Sku"]["maxLength"], Sku::MAX_BYTES),
        (&schemas["ListedSku"]["maxLength"], Sku::MAX_BYTES),
        (&schemas["NewProduct"]["properties"]["name"]["maxLength"], NewProduct::MAX_NAME_CHARS),
        (&schemas["NewProduct"]["properties"]["description"]["maxLength"], NewProduct::MAX_DESCRIPTION_BYTES),
        (&schemas["NewPrice"]["properties"]["reason"]["maxLength"], price_rows::MAX_REASON_CHARS),
        (&schemas["NewPrices"]["properties"]["items"]["maxItems"], price_rows::MOST_ROWS),
        (&schemas["NewPrices"]["properties"]["reason"]["maxLength"], price_rows::MAX_REASON_CHARS),
        (&schemas["NewBatchPrice"]["properties"]["reason"]["maxLength"], price_rows::MAX_REASON_CHARS),
        (&schemas["PriceBatch"]["properties"]["biggest_moves"]["maxItems"], domain::moves::MOST_TOLD),
        (&schemas["NewViews"]["properties"]["events"]["maxItems"], super::views::MAX_EVENTS),
        (&schemas["Viewed"]["properties"]["count"]["maximum"], super::views::MAX_COUNT as usize),
        (&schemas["Event"]["properties"]["count"]["maximum"], super::views::MAX_COUNT as usize),
        (&schemas["Event"]["properties"]["product_id"]["maximum"], ProductId::MAX as usize),
        (&schemas["ListedId"]["maximum"], ProductId::MAX as usize),
        (&parameter("ids")["maxItems"], super::products::MANY_LIMIT),
        (&parameter("skus")["maxItems"], super::products::MANY_LIMIT),
        (&parameter("limit")["maximum"], super::pages::MAX_LIMIT as usize),
    ] {
        assert_eq!(*documented, json!(enforced));
    }
    let history = &document["paths"]["/v1/products/{id}/price-history"]["get"]["parameters"];
    let limit = history.as_array().unwrap().iter().find(|parameter| parameter["name"] == "limit").unwrap();
    assert_eq!(limit["schema"]["maximum"], json!(super::pages::MAX_LIMIT));
    const LIMITS: [usize; 3] = [body::BEACON_LIMIT, body::BODY_LIMIT, body::BULK_LIMIT];
    const { assert!(LIMITS[0] == 64 << 10 && LIMITS[1] == 1 << 20 && LIMITS[2] == 8 << 20, "the page of body-too-large says so") };
}

#[test]
fn every_currency_in_use_is_listed_once_with_its_digits() {
    let document = document();
    for schema in ["NewMoney", "NewPrice", "NewBatchPrice"] {
        let alternatives = document["components"]["schemas"][schema]["oneOf"].as_array().unwrap();
        let codes = |alternative: &Value| alternative["properties"]["currency"]["enum"].as_array().unwrap().clone();
        let listed: Vec<_> = alternatives.iter().flat_map(codes).collect();
        assert_eq!(listed.len(), Currency::all().count());
        assert!(["GBP", "JPY", "BHD", "CLF"].iter().all(|code| listed.contains(&json!(code))), "{listed:?}");
        for alternative in alternatives {
            let title = alternative["title"].as_str().unwrap();
            let digits = title.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
            let amount = |digits: usize| if digits == 0 { "1".to_owned() } else { format!("1.{}", "5".repeat(digits)) };
            for code in codes(alternative) {
                let currency = Currency::parse(code.as_str().unwrap()).unwrap();
                assert!(Money::parse(&amount(digits), currency).is_ok(), "{code} {title}");
                assert!(Money::parse(&amount(digits + 1), currency).is_err(), "{code} {title}");
            }
        }
    }
}

#[test]
fn the_script_of_the_page_is_the_one_that_is_served() {
    let page = include_str!("../../assets/docs.html");
    assert!(page.contains(&format!("src=\"/docs/{}\"", docs::BUNDLE)));
    let document = document();
    let file = &document["paths"]["/docs/{file}"]["get"]["parameters"][0];
    assert_eq!(file["example"], docs::BUNDLE);
}
