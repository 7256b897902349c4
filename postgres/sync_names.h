#pragma once

#include <string_view>

namespace slipstream::postgres {

// Does every set of standbys that satisfies this synchronous_standby_names contain `application_name`? (safety rule R2)
// So it is when too few other names stand in the list to satisfy it alone. `*` is everybody. False when the text is not
// understood. Pure. Two standbys of one other name are beyond what a text can tell: PostgreSQL counts each. Source:
// PostgreSQL's syncrep_gram.y and syncrep.c; names ignore case and quotes.
bool names_always_contain(std::string_view synchronous_standby_names, std::string_view application_name);

}  // namespace slipstream::postgres
