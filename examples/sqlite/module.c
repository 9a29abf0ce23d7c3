/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libseg-sqlite: the twelve calls of SQLite's page cache interface, how they
 * are set up by a program (libseg_sqlite.h) or by LD_PRELOAD alone, and the
 * environment.  What they do is in tenant.c.
 */
#define _GNU_SOURCE
#include "libseg_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tenant.h"

enum { DEFAULT_MIB = 64, LEAST_MIB = 1, DEFAULT_WAIT_MS = 500 };

/* Set up before SQLite is initialized, one thread at a time. */
static struct libseg_sqlite_options options;
static char report_path[4096];	/* "" : no report */
static sqlite3_pcache_methods2 before;	/* SQLite's own; xInit NULL: not yet */

/* Between xInit and xShutdown; read by all connections.  A child of a fork
 * makes its own for the connections that it opens. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *now;
static int fork_handlers;

/* ---------------------------------------------------------------- the calls */

static void report(void);

static int create_now(void)
{
	return shared_create(options.budget_bytes, options.wait_ms, &now);
}

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
	if (now)
		shared_before_fork(now);
}

static void after_fork_in_parent(void)
{
	if (now)
		shared_after_fork(now);
	pthread_mutex_unlock(&lock);
}

/* The caches of connections that the parent had open must not be used. */
static void after_fork_in_child(void)
{
	if (now) {
		shared_forked(now);
		shared_after_fork(now);
	}
	pthread_mutex_unlock(&lock);
}

static int module_init(void *arg)
{
	int ret = SQLITE_OK;

	(void)arg;
	pthread_mutex_lock(&lock);
	if (!now)
		ret = create_now();
	/* After libseg's, whose locks are taken inside of ours. */
	if (!ret && !fork_handlers)
		fork_handlers = !pthread_atfork(before_fork,
						after_fork_in_parent,
						after_fork_in_child);
	pthread_mutex_unlock(&lock);
	/* SQLite takes small buffers from its own page cache's allocator all
	 * the same, whose figures have no lock before it is initialized. */
	return ret ? ret : before.xInit(before.pArg);
}

static void module_shutdown(void *arg)
{
	struct shared *s;

	(void)arg;
	report();
	pthread_mutex_lock(&lock);
	s = now;
	/* Connections that are still open, against the rules, go on with it,
	 * as they do with SQLite's own; so does the next xInit. */
	if (s && !shared_is_foreign(s) && shared_is_used(s))
		s = NULL;
	else
		now = NULL;
	pthread_mutex_unlock(&lock);
	if (s && !shared_is_foreign(s))
		shared_destroy(s);
	before.xShutdown(before.pArg);
}

static sqlite3_pcache *module_create(int page_bytes, int extra_bytes,
				     int purgeable)
{
	struct tenant *t = NULL;

	shared_upkeep();
	pthread_mutex_lock(&lock);
	if (now && shared_is_foreign(now)) {
		now = NULL;
		create_now();
	}
	if (now)
		t = tenant_create(now, page_bytes, extra_bytes, purgeable);
	pthread_mutex_unlock(&lock);
	return (sqlite3_pcache *)t;
}

static void module_cachesize(sqlite3_pcache *cache, int pages)
{
	struct tenant *t = (struct tenant *)cache;

	if (!shared_is_foreign(t->shared))
		tenant_resize(t, pages > 0 ? (uint32_t)pages : 0);
}

static int module_pagecount(sqlite3_pcache *cache)
{
	return (int)tenant_pages((struct tenant *)cache);
}

static sqlite3_pcache_page *module_fetch(sqlite3_pcache *cache,
					 unsigned number, int create)
{
	return tenant_fetch((struct tenant *)cache, number, create);
}

static void module_unpin(sqlite3_pcache *cache, sqlite3_pcache_page *page,
			 int discard)
{
	tenant_unpin((struct tenant *)cache, (struct page *)page, discard);
}

static void module_rekey(sqlite3_pcache *cache, sqlite3_pcache_page *page,
			 unsigned from, unsigned to)
{
	struct tenant *t = (struct tenant *)cache;

	if (!shared_is_foreign(t->shared))
		tenant_rename(t, (struct page *)page, from, to);
}

static void module_truncate(sqlite3_pcache *cache, unsigned from)
{
	struct tenant *t = (struct tenant *)cache;

	if (!shared_is_foreign(t->shared))
		tenant_truncate(t, from);
}

static void module_destroy(sqlite3_pcache *cache)
{
	struct tenant *t = (struct tenant *)cache;

	if (!shared_is_foreign(t->shared))
		tenant_destroy(t);
}

static void module_shrink(sqlite3_pcache *cache)
{
	struct tenant *t = (struct tenant *)cache;

	if (!shared_is_foreign(t->shared))
		tenant_shrink(t);
}

static const sqlite3_pcache_methods2 module = {
	.iVersion = 1,
	.xInit = module_init,
	.xShutdown = module_shutdown,
	.xCreate = module_create,
	.xCachesize = module_cachesize,
	.xPagecount = module_pagecount,
	.xFetch = module_fetch,
	.xUnpin = module_unpin,
	.xRekey = module_rekey,
	.xTruncate = module_truncate,
	.xDestroy = module_destroy,
	.xShrink = module_shrink,
};

/* ------------------------------------------------------------- for programs */

static int complete(struct libseg_sqlite_options *o)
{
	const uint64_t mib = 1 << 20;

	if (!o->budget_bytes)
		o->budget_bytes = DEFAULT_MIB * mib;
	if (!o->wait_ms)
		o->wait_ms = DEFAULT_WAIT_MS;
	return o->budget_bytes < LEAST_MIB * mib ||
	       o->budget_bytes > (mib * mib) * 8 ||
	       o->budget_bytes % SEG_MIN_BYTES || o->wait_ms < SEG_NO_WAIT ?
	       SQLITE_RANGE : SQLITE_OK;
}

int libseg_sqlite_install(const struct libseg_sqlite_options *theirs)
{
	struct libseg_sqlite_options o = { .size = sizeof(o) };
	int ret;

	if (theirs && theirs->size != sizeof(o))
		return SQLITE_MISUSE;
	if (theirs)
		o = *theirs;
	ret = complete(&o);
	if (!ret && !before.xInit)
		ret = sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &before);
	if (!ret)
		ret = sqlite3_config(SQLITE_CONFIG_PCACHE2, &module);
	if (!ret)
		options = o;
	return ret;
}

int libseg_sqlite_remove(void)
{
	return before.xInit ? sqlite3_config(SQLITE_CONFIG_PCACHE2, &before) :
			      SQLITE_MISUSE;
}

static void fill_stats(struct shared *s, struct libseg_sqlite_stats *st)
{
	struct seg_budget_stats b = { .size = sizeof(b) };
	struct seg_cache_stats c = { .size = sizeof(c) };
	struct seg_pool_stats p = { .size = sizeof(p) };

	seg_budget_stats(s->budget, &b);
	seg_cache_stats(s->cache, &c);
	seg_pool_stats(s->pool, SEG_ALL, SEG_ALL, &p);
	st->budget_bytes = b.limit_bytes;
	st->charged_bytes = b.charged_bytes;
	st->peak_charged_bytes = b.peak_charged_bytes;
	st->evictions_total = c.evictions_total + c.reclaims_total;
	st->metadata_bytes = c.metadata_bytes + p.metadata_bytes;
	/* relaxed, both: counters */
	st->recycled_total = atomic_load_explicit(&s->recycled,
						  memory_order_relaxed);
	st->refusals_total = atomic_load_explicit(&s->refusals,
						  memory_order_relaxed);
	pthread_mutex_lock(&s->lock);
	for (struct tenant *t = s->tenants; t; t = t->next) {
		st->connections++;
		st->pages += tenant_pages(t);
		st->pinned_bytes += tenant_pinned_bytes(t);
	}
	pthread_mutex_unlock(&s->lock);
}

int libseg_sqlite_stats(struct libseg_sqlite_stats *ret_stats)
{
	struct libseg_sqlite_stats st = { .size = sizeof(st) };
	int ret = SQLITE_MISUSE;

	if (!ret_stats || ret_stats->size != sizeof(st))
		return ret;
	pthread_mutex_lock(&lock);
	if (now && !shared_is_foreign(now)) {
		fill_stats(now, &st);
		*ret_stats = st;
		ret = SQLITE_OK;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

/* ----------------------------------------------------------- for LD_PRELOAD */

/* "64M"; false: not so, or below least. */
static bool parse_bytes(const char *text, uint64_t *ret_bytes)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return false;
	for (const char *unit = "KMG"; *end && *unit; unit++) {
		n <<= 10;
		if (*end == *unit) {
			end++;
			break;
		}
	}
	*ret_bytes = n;
	return !*end;
}

static bool parse_word(char *word, struct libseg_sqlite_options *o)
{
	char *value = strchr(word, '='), *end;

	if (!value)
		return false;
	*value++ = '\0';
	if (!strcmp(word, "budget"))
		return parse_bytes(value, &o->budget_bytes);
	if (!strcmp(word, "report")) {
		snprintf(report_path, sizeof(report_path), "%s", value);
		return true;
	}
	if (strcmp(word, "wait"))
		return false;
	o->wait_ms = (int)strtol(value, &end, 10);
	return end != value && !*end;
}

static void parse(struct libseg_sqlite_options *o)
{
	const char *text = secure_getenv("LIBSEG_SQLITE");
	char *copy = text ? strdup(text) : NULL, *next = copy, *word;

	while ((word = strsep(&next, ",")))
		if (*word && !parse_word(word, o))
			fprintf(stderr, "libseg-sqlite: \"%s\" in "
				"LIBSEG_SQLITE means nothing\n", word);
	free(copy);
}

/* Where there is no main() of ours: the library is preloaded, or linked by a
 * program that has nothing more to say. */
__attribute__((constructor)) static void preloaded(void)
{
	struct libseg_sqlite_options o = { .size = sizeof(o) };

	parse(&o);
	if (libseg_sqlite_install(&o))
		fprintf(stderr, "libseg-sqlite: LIBSEG_SQLITE is not valid, or "
			"SQLite is in use already; not installed\n");
}

/* At xShutdown, and at the end of a process that does without. */
__attribute__((destructor)) static void report(void)
{
	struct libseg_sqlite_stats s = { .size = sizeof(s) };
	FILE *file;

	if (!*report_path || libseg_sqlite_stats(&s))
		return;
	file = fopen(report_path, "a");
	if (!file)
		return;
	fprintf(file, "{\"budget_bytes\":%llu,\"charged_bytes\":%llu,"
		"\"peak_charged_bytes\":%llu,\"connections\":%llu,"
		"\"pages\":%llu,\"pinned_bytes\":%llu,"
		"\"evictions\":%llu,\"recycled\":%llu,"
		"\"refusals\":%llu,\"metadata_bytes\":%llu}\n",
		(unsigned long long)s.budget_bytes,
		(unsigned long long)s.charged_bytes,
		(unsigned long long)s.peak_charged_bytes,
		(unsigned long long)s.connections,
		(unsigned long long)s.pages,
		(unsigned long long)s.pinned_bytes,
		(unsigned long long)s.evictions_total,
		(unsigned long long)s.recycled_total,
		(unsigned long long)s.refusals_total,
		(unsigned long long)s.metadata_bytes);
	fclose(file);
}
