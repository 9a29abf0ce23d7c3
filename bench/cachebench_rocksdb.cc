/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * RocksDB's block caches, by their public header.  A look-up always takes a
 * reference there, so a plain hit and a pin are the same.  The defaults hold,
 * but that metadata is not charged: the capacity is that of all subjects.
 */
#include <memory>
#include <rocksdb/cache.h>

#include "cachebench.h"

namespace {

using rocksdb::Cache;
using rocksdb::Slice;

struct Rocks {
	std::shared_ptr<Cache> cache;
};

/* HyperClockCache wants keys of 16 bytes; both get them. */
struct Key {
	uint64_t words[2];

	explicit Key(uint64_t key) : words{ key, 0 } {}
	Slice slice() const
	{
		return Slice(reinterpret_cast<const char *>(words),
			     sizeof(words));
	}
};

inline const void *do_pin(void *state, uint64_t key)
{
	Cache *cache = static_cast<Rocks *>(state)->cache.get();
	Cache::Handle *handle = cache->Lookup(Key(key).slice());

	if (!handle)
		return nullptr;
	const void *value = cache->Value(handle);
	cache->Release(handle);
	return value;
}

inline const void *do_hit(void *state, uint64_t key)
{
	return do_pin(state, key);
}

void forget(const Slice &, void *)
{
}

inline void do_put(void *state, uint64_t key)
{
	Cache *cache = static_cast<Rocks *>(state)->cache.get();

	/* Insert() says so only where a limit is strict: here it is not. */
	if (!cache->Insert(Key(key).slice(), state, BENCH_WEIGHT,
			   forget).ok())
		bench_die("rocksdb: Insert");
}

#include "cachebench_loops.h"

void *lru_setup(const bench_setup *setup)
{
	rocksdb::LRUCacheOptions options;

	options.capacity = setup->capacity * BENCH_WEIGHT;
	options.metadata_charge_policy = rocksdb::kDontChargeCacheMetadata;
	return new Rocks{ rocksdb::NewLRUCache(options) };
}

void *hcc_setup(const bench_setup *setup)
{
	rocksdb::HyperClockCacheOptions options(setup->capacity * BENCH_WEIGHT,
						BENCH_WEIGHT);

	options.metadata_charge_policy = rocksdb::kDontChargeCacheMetadata;
	return new Rocks{ options.MakeSharedCache() };
}

void rocks_teardown(void *state)
{
	delete static_cast<Rocks *>(state);
}

}

extern "C" const bench_subject bench_rocksdb_lru = {
	"rocksdb-lru", (1 << LOOPS) - 1, nullptr, lru_setup, rocks_teardown,
	loop_put, { loop_hit, loop_pin, loop_insert, loop_mix }, nullptr,
};

extern "C" const bench_subject bench_rocksdb_hcc = {
	"rocksdb-hcc", (1 << LOOPS) - 1, nullptr, hcc_setup, rocks_teardown,
	loop_put, { loop_hit, loop_pin, loop_insert, loop_mix }, nullptr,
};
