#include "wal/io/stale_pages.h"

#include "tests/postgres/feed_place.h"
#include "tests/postgres/server.h"
#include "wal/io/files.h"

namespace slipstream::postgres {
namespace {

using namespace real;

TEST(StalePages, ARealPgWalHasNoneBehindItsEndAndSegmentsMadeAheadHaveNone) {
  if (!available()) GTEST_SKIP() << kMissing;
  feed_test::Place place;
  give_to_database_user(place.path());
  Server server(place / "primary", 7401);
  server.initialise();
  server.configure({{"autovacuum", "off"}, {"min_wal_size", "8MB"}, {"checkpoint_timeout", "1h"}});
  server.start();
  server.sql("CREATE TABLE public.t (i int)");
  for (int i = 0; i < 4; ++i) server.sql("INSERT INTO public.t SELECT generate_series(1, 20000)");
  server.sql("CHECKPOINT");
  server.sql("INSERT INTO public.t VALUES (1)");

  const wal::SegmentLayout layout{ByteCount{1 << 20}};
  const auto end = [&](Lsn flushed) { return wal::io::stale_pages_end(server.wal(), layout, TimelineId{1}, flushed); };
  const Lsn before = server.flushed();
  const auto segments = wal::io::list_segments(server.wal(), layout);
  ASSERT_FALSE(segments.empty());
  ASSERT_GT(segments.back().number, layout.number_of(before)) << "the checkpoint recycled none";
  EXPECT_EQ(end(before), before);

  server.sql("INSERT INTO public.t SELECT generate_series(1, 3000)");
  const Lsn after = server.flushed();
  EXPECT_EQ(end(before), align_up(after, wal::kPageBytes)) << "as if it had been lost and lay there still";
  EXPECT_EQ(end(after), after);
}

}  // namespace
}  // namespace slipstream::postgres
