//! Who is this really? What DNS says of a client, within budgets. It acts on nothing it finds.
