//! What a token may be allowed to do. One list for the tokens file, the routes and the command line.

use std::fmt;
use std::str::FromStr;

/// One right. A route asks for exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    CatalogRead,
    CatalogWrite,
    PricesWrite,
    ViewsWrite,
    StockRead,
    StockWrite,
    ReservationsWrite,
    MetricsRead,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 9] = [
        Self::CatalogRead,
        Self::CatalogWrite,
        Self::PricesWrite,
        Self::ViewsWrite,
        Self::StockRead,
        Self::StockWrite,
        Self::ReservationsWrite,
        Self::MetricsRead,
        Self::Admin,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CatalogRead => "catalog:read",
            Self::CatalogWrite => "catalog:write",
            Self::PricesWrite => "prices:write",
            Self::ViewsWrite => "views:write",
            Self::StockRead => "stock:read",
            Self::StockWrite => "stock:write",
            Self::ReservationsWrite => "reservations:write",
            Self::MetricsRead => "metrics:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    /// The error names the nearest scope and never the text, which may be a secret in the wrong place.
    fn from_str(text: &str) -> Result<Self, String> {
        let likeness = |scope: &Scope| strsim::jaro_winkler(scope.as_str(), text);
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let nearest = Self::ALL.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            format!("no such scope; did you mean {}?", nearest.unwrap_or(Self::CatalogRead))
        })
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }

    /// Whether it was not there yet.
    pub(crate) fn add(&mut self, scope: Scope) -> bool {
        let new = !self.contains(scope);
        self.0 |= 1 << scope as u16;
        new
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            set.add(scope);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_the_names_of_the_contract_and_are_read_back() {
        let names = "catalog:read catalog:write prices:write views:write stock:read stock:write reservations:write metrics:read admin";
        assert_eq!(Scope::ALL.map(Scope::as_str).join(" "), names);
        assert_eq!(Scope::ALL.map(|scope| scope.as_str().parse()), Scope::ALL.map(Ok));
    }

    #[test]
    fn an_unknown_scope_is_refused_and_the_nearest_one_named() {
        for (wrong, meant) in [("price:write", "prices:write"), ("catalogue:read", "catalog:read"), ("Admin", "admin")] {
            let fault = wrong.parse::<Scope>().unwrap_err();
            assert!(fault.ends_with(&format!("did you mean {meant}?")), "{wrong}: {fault}");
        }
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        for put in Scope::ALL {
            let set = Scopes::from_iter([put]);
            assert!(Scope::ALL.into_iter().all(|scope| set.contains(scope) == (scope == put)), "{put}");
        }
    }
}
