/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A storage engine in small: eight readers against a committing writer, with
 * two caches of eight pages each, under a budget that another thread keeps at
 * its limit.
 *
 *   the store    the version of each record; a page is made from it
 *   fragments    a cache of pages, each of one version of a record
 *   records      a cache of pages, made from a fragment that is pinned
 *   the writer   takes pages out into an intent log and changes them
 *   committer    another thread: new versions go to the store, then the old
 *                pages leave the cache, or the log's pages replace them
 *
 * A reader never sees a version older than the one that was committed before
 * it began, nor a torn page.  At the end everything is given back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stress.h"

enum {
	RECORDS = 40,
	CACHED = 8,
	READERS = 8,
	LOG_PAIRS = 5,
	LOGS = 2,
	FRAGMENT_BYTES = 4096,
	PART0_BYTES = 4096,
	PART1_BYTES = 8192,
	RECORD_BYTES = PART0_BYTES + PART1_BYTES,
	REGION_BYTES = 64 << 10,
	LIMIT_BYTES = 1 << 20,
	HOARD = 48,
	HEAD_BYTES = 32,
};

/* The first bytes of each part. */
struct head {
	uint64_t key, version;
	uint64_t part, check;
};

struct record {
	stress_count version;		/* in the store */
	stress_count committed;		/* and in no cache an older one */
	_Atomic bool pending;		/* in a log */
};

struct log_slot {
	struct seg_txlog *log;
	sem_t filled, free;
	uint64_t keys[LOG_PAIRS];
	bool replaces[LOG_PAIRS];	/* the log's page goes to the cache */
	unsigned count;
	bool last;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seg_cache *fragments, *records;
static bool short_reads;
static struct record store[RECORDS];
static struct log_slot logs[LOGS];
static struct tally {
	stress_count read_pages, peeked, no_memory, wrote, no_room, aborted;
	stress_count committed, taken, busy, absent, replaced, listened;
} tally;

/* ----------------------------------------------------------------- pages */

static uint64_t owner_of(uint64_t key, uint64_t version, unsigned part)
{
	return (key << 40) + (version << 2) + part;
}

static void fill(struct seg_page *page, uint64_t key, uint64_t version)
{
	for (unsigned i = 0; i < seg_page_parts(page); i++) {
		char *at = seg_page_part(page, i);
		uint64_t owner = owner_of(key, version, i);
		struct head head = { key, version, i, ~owner };

		memcpy(at, &head, sizeof(head));
		stress_fill(at + HEAD_BYTES, seg_page_part_bytes(page, i) -
						     HEAD_BYTES, owner);
	}
}

/* Fails unless it is one whole version; which. */
static uint64_t verify(const struct seg_page *page, uint64_t key,
		       unsigned parts)
{
	struct head head = { 0 };
	uint64_t version = 0;

	stress_check(seg_page_parts(page) == parts, "key %" PRIu64
		     ": a page of %u parts", key, seg_page_parts(page));
	for (unsigned i = 0; i < parts; i++) {
		const char *at = seg_page_part(page, i);
		uint64_t owner;

		memcpy(&head, at, sizeof(head));
		owner = owner_of(key, head.version, i);
		version = i ? version : head.version;
		stress_check(head.key == key && head.part == i &&
			     head.check == ~owner && head.version == version,
			     "key %" PRIu64 " part %u: torn, key %" PRIu64
			     " version %" PRIu64 " of %" PRIu64, key, i,
			     head.key, head.version, version);
		stress_verify(at + HEAD_BYTES, seg_page_part_bytes(page, i) -
						       HEAD_BYTES, owner);
	}
	return version;
}

static struct seg_page *page_make(unsigned parts)
{
	static const size_t bytes[] = { PART0_BYTES, PART1_BYTES };
	struct seg_page *page;
	int ret = seg_page_create(pool, bytes, parts, &page);

	stress_check(!ret || ret == -ENOMEM, "seg_page_create: %s",
		     strerror(-ret));
	return ret ? NULL : page;
}

static void page_end(struct seg_page *page)
{
	int ret = seg_page_release(page);

	stress_check(!ret, "seg_page_release: %s", strerror(-ret));
}

static uint64_t version_of(uint64_t key)
{
	/* acquire <- set_version() */
	return atomic_load_explicit(&store[key].version, memory_order_acquire);
}

static void set_version(stress_count *at, uint64_t version)
{
	/* release -> version_of(), read_record() */
	atomic_store_explicit(at, version, memory_order_release);
}

/* ----------------------------------------------------------------- loads */

static uint64_t fragment_key(uint64_t key, uint64_t version)
{
	return key << 32 | version;
}

static int load_fragment(void *ctx, uint64_t fragment, void **ret_value,
			 uint64_t *ret_weight)
{
	struct seg_page *page = page_make(1);

	(void)ctx;
	if (!page)
		return -ENOMEM;
	fill(page, fragment >> 32, (uint32_t)fragment);
	*ret_value = page;
	*ret_weight = 0;
	return 0;
}

/* A load in a load, of another cache, with a pin meanwhile. */
static int load_record(void *ctx, uint64_t key, void **ret_value,
		       uint64_t *ret_weight)
{
	uint64_t version = version_of(key);
	struct seg_page *page;
	struct seg_pin pin;
	int ret = seg_cache_get_or_load(fragments, fragment_key(key, version),
					load_fragment, ctx, 0, &pin);

	if (ret)
		return ret;
	ret = seg_pin_tag(&pin, key + 1);
	stress_check(!ret, "seg_pin_tag: %s", strerror(-ret));
	page = page_make(2);
	if (page) {
		stress_check(verify(seg_pin_value(&pin), key, 1) == version,
			     "a fragment of another version");
		fill(page, key, version);
	}
	stress_check(!seg_unpin(&pin), "unpin of a fragment");
	*ret_value = page;
	*ret_weight = 0;
	return page ? 0 : -ENOMEM;
}

static void on_leave(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	(void)cause;
	(void)verify(value, ctx ? key : key >> 32, ctx ? 2 : 1);
	stress_check(weight == seg_page_bytes(value), "another weight");
	stress_add(&tally.listened, 1);
}

/* --------------------------------------------------------------- readers */

static void check_version(uint64_t key, uint64_t version, uint64_t least)
{
	stress_check(version >= least, "key %" PRIu64 ": version %" PRIu64
		     ", but %" PRIu64 " was committed before", key, version,
		     least);
	stress_check(version <= version_of(key), "key %" PRIu64
		     ": version %" PRIu64 " is not in the store", key, version);
}

static bool peek(uint64_t key, uint64_t least)
{
	void *value;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(records, key, &value);
	if (!ret)
		check_version(key, verify(value, key, 2), least);
	seg_read_end();
	stress_check(!ret || ret == -ENOENT, "peek: %s", strerror(-ret));
	if (!ret)
		stress_add(&tally.peeked, 1);
	return !ret;
}

/* False: there was no memory for the page. */
static bool read_record(uint64_t key, struct seg_pin *ret_pin)
{
	/* acquire <- set_version() */
	uint64_t least = atomic_load_explicit(&store[key].committed,
					      memory_order_acquire);
	int ret;

	ret_pin->cache = NULL;
	if (short_reads && peek(key, least))
		return true;
	ret = seg_cache_get_or_load(records, key, load_record, NULL, 0,
				    ret_pin);
	if (ret) {
		stress_check(ret == -ENOMEM, "get_or_load: %s", strerror(-ret));
		stress_add(&tally.no_memory, 1);
		return false;
	}
	check_version(key, verify(seg_pin_value(ret_pin), key, 2), least);
	stress_add(&tally.read_pages, 1);
	return true;
}

/* Two records at a time: one is pinned while the other is read. */
static void *read_all(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	while (!stress_over()) {
		uint64_t key = stress_below(&random, RECORDS);
		struct seg_pin pin, other;

		if (!read_record(key, &pin))
			continue;
		if (read_record(stress_below(&random, RECORDS), &other))
			stress_check(!seg_unpin(&other), "unpin");
		if (pin.cache)
			(void)verify(seg_pin_value(&pin), key, 2);
		stress_check(!seg_unpin(&pin), "unpin");
	}
	return NULL;
}

/* ---------------------------------------------------------------- writer */

static struct seg_page *copy_pinned(uint64_t key)
{
	struct seg_pin pin;
	struct seg_page *page;

	if (seg_cache_get(records, key, &pin))
		return NULL;
	page = page_make(2);
	if (page)
		fill(page, key, verify(seg_pin_value(&pin), key, 2));
	stress_check(!seg_unpin(&pin), "unpin");
	return page;
}

/* The record as it is in the store, as the writer's own page; or NULL. */
static struct seg_page *own_page(uint64_t key)
{
	uint64_t version = version_of(key);
	struct seg_page *page = NULL;
	void *value;
	int ret = seg_cache_take(records, key, &value);

	if (!ret) {
		stress_add(&tally.taken, 1);
		page = value;
	} else if (ret == -EBUSY) {
		stress_add(&tally.busy, 1);
		page = copy_pinned(key);
	} else {
		stress_check(ret == -ENOENT, "take: %s", strerror(-ret));
		stress_add(&tally.absent, 1);
		page = page_make(2);
		if (page)
			fill(page, key, version);
	}
	if (page)
		stress_check(verify(page, key, 2) == version, "key %" PRIu64
			     ": the cache kept an old version", key);
	return page;
}

static bool put_pair(struct seg_txlog *log, uint64_t key,
		     struct seg_page *complete, struct seg_page *modified)
{
	int ret = seg_txlog_put(log, key, complete, modified);

	if (!ret)
		return true;
	stress_check(ret == -ENOMEM, "seg_txlog_put: %s", strerror(-ret));
	page_end(complete);
	if (modified != complete)
		page_end(modified);
	return false;
}

static bool change(struct stress_random *random, struct seg_txlog *log,
		   uint64_t key)
{
	struct seg_page *complete = own_page(key);
	struct seg_page *modified = complete;

	if (!complete)
		return false;
	if (stress_below(random, 2)) {
		modified = page_make(2);
		if (!modified) {
			page_end(complete);
			return false;
		}
	}
	fill(modified, key, version_of(key) + 1);
	return put_pair(log, key, complete, modified);
}

static void fill_log(struct log_slot *slot, struct stress_random *random)
{
	unsigned pairs = 1 + stress_below(random, LOG_PAIRS);

	slot->count = 0;
	for (unsigned i = 0; i < pairs; i++) {
		uint64_t key = stress_below(random, RECORDS);

		/* acquire <- end_record() */
		if (atomic_load_explicit(&store[key].pending,
					 memory_order_acquire))
			continue;
		if (!change(random, slot->log, key)) {
			stress_add(&tally.no_room, 1);
			continue;
		}
		/* relaxed: only this thread sets it */
		atomic_store_explicit(&store[key].pending, true,
				      memory_order_relaxed);
		slot->replaces[slot->count] = stress_below(random, 2);
		slot->keys[slot->count++] = key;
		stress_add(&tally.wrote, 1);
	}
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

static void *write_all(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	for (unsigned i = 0;; i++) {
		struct log_slot *slot = &logs[i % LOGS];

		wait_for(&slot->free);
		slot->last = stress_over();
		if (!slot->last)
			fill_log(slot, &random);
		sem_post(&slot->filled);
		if (slot->last)
			return NULL;
	}
}

/* ------------------------------------------------------------- committer */

/* From here on all who begin see the new version. */
static void end_record(uint64_t key, uint64_t version)
{
	set_version(&store[key].committed, version);
	/* release -> fill_log() */
	atomic_store_explicit(&store[key].pending, false,
			      memory_order_release);
}

static void purge(uint64_t key)
{
	int ret = seg_cache_remove(records, key, NULL);

	stress_check(!ret || ret == -ENOENT, "remove: %s", strerror(-ret));
}

/* The page leaves the log for the cache. */
static void replace_record(struct log_slot *slot, uint64_t key)
{
	struct seg_page *complete, *modified;
	uint64_t version = version_of(key) + 1;
	int ret = seg_txlog_take(slot->log, key, &complete, &modified);

	stress_check(!ret, "seg_txlog_take: %s", strerror(-ret));
	stress_check(verify(modified, key, 2) == version, "another version");
	set_version(&store[key].version, version);
	ret = seg_cache_replace(records, key, modified, 0, NULL);
	if (ret) {
		stress_check(ret == -ENOMEM, "replace: %s", strerror(-ret));
		purge(key);
		page_end(modified);
	}
	if (complete != modified)
		page_end(complete);
	stress_add(&tally.replaced, 1);
	end_record(key, version);
}

static int write_record(void *ctx, uint64_t key,
			const struct seg_page *complete,
			const struct seg_page *modified)
{
	uint64_t version = version_of(key) + 1;

	(void)ctx;
	(void)verify(complete, key, 2);
	stress_check(verify(modified, key, 2) == version, "another version");
	set_version(&store[key].version, version);
	purge(key);
	end_record(key, version);
	return 0;
}

static void abort_log(struct log_slot *slot)
{
	stress_check(!seg_txlog_abort(slot->log), "abort");
	for (unsigned i = 0; i < slot->count; i++)
		end_record(slot->keys[i], version_of(slot->keys[i]));
	stress_add(&tally.aborted, 1);
}

static void commit_log(struct log_slot *slot)
{
	int ret;

	for (unsigned i = 0; i < slot->count; i++)
		if (slot->replaces[i])
			replace_record(slot, slot->keys[i]);
	ret = seg_txlog_commit(slot->log, write_record, NULL);
	stress_check(!ret, "commit: %s", strerror(-ret));
	stress_add(&tally.committed, 1);
}

static void *commit_all(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	for (unsigned i = 0;; i++) {
		struct log_slot *slot = &logs[i % LOGS];

		wait_for(&slot->filled);
		if (slot->last)
			return NULL;
		if (stress_below(&random, 8))
			commit_log(slot);
		else
			abort_log(slot);
		sem_post(&slot->free);
	}
}

/* -------------------------------------------------------------- pressure */

static void check_refusal(void)
{
	struct seg_refusal r = { .size = sizeof(r) };
	int ret = seg_pool_last_refusal(pool, &r);

	stress_check(!ret || ret == -ENOENT, "last_refusal: %s",
		     strerror(-ret));
	stress_check(ret || (r.bytes && r.limit_bytes == LIMIT_BYTES),
		     "a refusal of nothing");
}

static void release_all(void **hoard, size_t *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		stress_verify(hoard[i], bytes[i], i);
		stress_check(!seg_release(pool, hoard[i]), "seg_release");
	}
}

/* Allocates until it is refused, again and again. */
static void press_once(struct stress_random *random, unsigned least)
{
	void *hoard[HOARD];
	size_t bytes[HOARD];
	unsigned count = 0;

	while (count < HOARD) {
		size_t n = (size_t)SEG_MIN_BYTES
			   << (least + stress_below(random, 4 - least));

		hoard[count] = seg_alloc(pool, n);
		if (!hoard[count])
			break;
		bytes[count] = n;
		stress_fill(hoard[count], n, count);
		count++;
	}
	stress_check_budget(budget);
	check_refusal();
	release_all(hoard, bytes, count);
}

static void *press(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	while (!stress_over())
		press_once(&random, 0);
	return NULL;
}

/* ------------------------------------------------------------------ game */

static struct seg_cache *make_cache(const char *name, uint64_t page_bytes,
				    bool short_reads_too)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = CACHED * page_bytes,
		.budget = budget,
		.pages = pool,
		.listener = on_leave,
		.listener_ctx = page_bytes == RECORD_BYTES ? store : NULL,
		.name = name,
		.short_reads = short_reads_too,
	};
	struct seg_cache *cache;
	int ret = seg_cache_create(&o, &cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
	return cache;
}

static void make_logs(void)
{
	for (int i = 0; i < LOGS; i++) {
		int ret = seg_txlog_create(pool, NULL, &logs[i].log);

		stress_check(!ret, "seg_txlog_create: %s", strerror(-ret));
		sem_init(&logs[i].filled, 0, 0);
		sem_init(&logs[i].free, 0, 1);
	}
}

static void run(unsigned number)
{
	enum { THREADS = READERS + 3 };
	static void *(*const main_of[])(void *) = { write_all, commit_all,
						    press };
	struct stress_random random = stress_random_of(number);
	unsigned arg[THREADS];
	pthread_t thread[THREADS];

	stress_again();
	for (unsigned i = 0; i < THREADS; i++) {
		arg[i] = number * THREADS + i;
		thread[i] = stress_start(i < 3 ? main_of[i] : read_all,
					 &arg[i]);
	}
	stress_run_for(stress_seconds() / 2);
	for (unsigned i = 0; i < THREADS; i++)
		stress_join(thread[i]);
	/* On a busy machine nobody may have met the limit. */
	press_once(&random, 3);
}

static struct seg_cache_stats end_cache(struct seg_cache *cache)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	int ret;

	stress_check(seg_cache_is_valid(cache), "the cache is not valid");
	stress_check(!seg_cache_clear(cache), "clear");
	stress_check(!seg_cache_stats(cache, &s), "stats");
	stress_check(!s.entries && !s.weight && !s.pinned_weight,
		     "after clear: %" PRIu64 " entries, weight %" PRIu64
		     ", pinned %" PRIu64, s.entries, s.weight, s.pinned_weight);
	stress_check(!s.misuses_total, "misuses");
	ret = seg_cache_destroy(cache);
	stress_check(!ret, "seg_cache_destroy: %s", strerror(-ret));
	return s;
}

static void report(const struct seg_cache_stats *f,
		   const struct seg_cache_stats *r)
{
	printf("%s: pages read %" PRIu64 ", peeked %" PRIu64
	       ", no memory %" PRIu64 "\n", short_reads ? "short reads" :
	       "pins", stress_value(&tally.read_pages),
	       stress_value(&tally.peeked), stress_value(&tally.no_memory));
	printf("  logs committed %" PRIu64 ", aborted %" PRIu64 ", pages %"
	       PRIu64 ": taken %" PRIu64 ", copied %" PRIu64 ", loaded %"
	       PRIu64 ", no room %" PRIu64 ", put back %" PRIu64 "\n",
	       stress_value(&tally.committed), stress_value(&tally.aborted),
	       stress_value(&tally.wrote), stress_value(&tally.taken),
	       stress_value(&tally.busy),
	       stress_value(&tally.absent), stress_value(&tally.no_room),
	       stress_value(&tally.replaced));
	printf("  fragments: loads %" PRIu64 ", hits %" PRIu64 ", evicted %"
	       PRIu64 ", reclaimed %" PRIu64 "\n", f->loads_total,
	       f->hits_total, f->evictions_total, f->reclaims_total);
	printf("  records:   loads %" PRIu64 ", hits %" PRIu64 ", waits %"
	       PRIu64 ", evicted %" PRIu64 ", reclaimed %" PRIu64
	       ", removed %" PRIu64 "\n", r->loads_total, r->hits_total,
	       r->load_waits_total, r->evictions_total, r->reclaims_total,
	       r->removals_total);
}

/* Every page that came in by a load or a put left once, by one way. */
static void check_counts(const struct seg_cache_stats *f,
			 const struct seg_cache_stats *r)
{
	uint64_t in = f->inserts_total + r->inserts_total;
	uint64_t out = stress_value(&tally.listened) + r->takes_total +
		       f->takes_total;

	stress_check(in == out, "%" PRIu64 " pages came, %" PRIu64 " left", in,
		     out);
	stress_check(r->takes_total == stress_value(&tally.taken), "takes");
	stress_check(stress_value(&tally.read_pages) &&
		     stress_value(&tally.committed), "nobody got on");
}

static void play(unsigned number)
{
	struct seg_cache_stats f, r;
	struct seg_pool_stats p;

	short_reads = number % 2;
	tally = (struct tally){ 0 };
	budget = stress_budget(LIMIT_BYTES);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget, .region_bytes = REGION_BYTES, .decay_ms = 2,
		.wait_ms = 2 });
	fragments = make_cache("Fragments", FRAGMENT_BYTES, false);
	records = make_cache("Records", RECORD_BYTES, short_reads);
	make_logs();
	run(number);
	for (int i = 0; i < LOGS; i++)
		seg_txlog_destroy(logs[i].log);
	f = end_cache(fragments);
	r = end_cache(records);
	report(&f, &r);
	p = stress_stats(pool);
	printf("  regions mapped %" PRIu64 ", unmapped %" PRIu64
	       ", refusals %" PRIu64 ", caches asked %" PRIu64 "\n",
	       p.regions_mapped_total, p.regions_unmapped_total,
	       p.refusals_total, stress_budget_stats(budget).reclaims_total);
	stress_check(f.reclaims_total + r.reclaims_total,
		     "the caches never had to give back");
	check_counts(&f, &r);
	stress_pool_end(pool);
	stress_budget_end(budget);
}

int main(void)
{
	stress_begin("stress/cache_pages");
	for (unsigned i = 0; i < 2; i++)
		play(i);
	return stress_end();
}
