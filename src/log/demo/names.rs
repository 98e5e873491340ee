//! The people and companies of the simulation. Any likeness is by chance.

/// Sales representatives.
pub const OWNERS: [&str; 12] = [
    "Ann Lindqvist",
    "Bashir Haddad",
    "Chiara Conti",
    "Dmitri Volkov",
    "Esther Okafor",
    "Felix Brandt",
    "Grace Tanaka",
    "Hugo Martins",
    "Ines Delgado",
    "Jonas Weber",
    "Kavya Rao",
    "Liam Byrne",
];

/// First and last words of company names; every pair is an account.
pub const COMPANY: [&str; 20] = [
    "Alder",
    "Birchwood",
    "Copperline",
    "Drayton",
    "Eastgate",
    "Fairhaven",
    "Granite",
    "Harbour",
    "Ironbridge",
    "Juniper",
    "Kestrel",
    "Larkfield",
    "Meridian",
    "Northwind",
    "Oakmont",
    "Pinnacle",
    "Quayside",
    "Ridgeway",
    "Silverlake",
    "Tidewater",
];
pub const TRADE: [&str; 12] = ["Logistics", "Foods", "Energy", "Textiles", "Robotics", "Pharma", "Paper", "Marine", "Optics", "Ceramics", "Media", "Tools"];

pub const REGIONS: [&str; 6] = ["Nordics", "DACH", "Iberia", "Benelux", "Americas", "Asia Pacific"];
pub const SEGMENTS: [&str; 3] = ["enterprise", "mid-market", "small business"];
pub const CURRENCIES: [&str; 4] = ["EUR", "EUR", "USD", "GBP"];
