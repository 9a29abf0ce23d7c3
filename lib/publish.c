/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See publish.h. */
#include "publish.h"

#include <errno.h>
#include <string.h>

#include "keeper.h"
#include "os.h"
#include "seg.h"

static const uint64_t PERIOD_NS = 1000 * 1000 * 1000;

/* Under the keeper's lock, all but `there`. */
static struct {
	struct publish_item *items;
	uint64_t ids;
	unsigned wanted;		/* pools that want a page */
	struct published_page *page;	/* NULL: none is there */
	uint64_t *body;			/* where it is put together */
	uint64_t due_ns;
	struct atomic_u32 there;	/* the file, for remove_at_exit() */
} publish;

bool publish_name_is_valid(const char *name)
{
	return !name || strlen(name) < PUBLISHED_NAME_BYTES;
}

void publish_set_name(struct publish_item *item, const char *name,
		      const char *usual)
{
	strcpy(item->name, name ? name : usual);
}

void publish_add(struct publish_item *item)
{
	keeper_hold();
	item->id = ++publish.ids;
	item->next = publish.items;
	publish.items = item;
	keeper_let_go();
}

void publish_remove(struct publish_item *item)
{
	struct publish_item **at = &publish.items;

	keeper_hold();
	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	keeper_let_go();
}

/* ---- the file ---- */

static void begin_body(uint64_t *body)
{
	struct published_head head = {
		.magic = PUBLISHED_MAGIC,
		.process = (uint64_t)os_process_id(),
	};

	head.process_start = os_process_start((long)head.process);
	strncpy(head.version, seg_version(), sizeof(head.version) - 1);
	memcpy(body, &head, sizeof(head));
}

static int open_page(void)
{
	char path[PUBLISHED_PATH_BYTES];
	void *page = NULL;
	int ret;

	if (!publish.body)
		publish.body = os_calloc(PUBLISHED_WORDS, sizeof(uint64_t));
	if (!publish.body)
		return -ENOMEM;
	published_path(path, os_process_id());
	ret = os_map_file(path, PUBLISHED_BYTES, &page);
	if (ret)
		return ret;
	begin_body(publish.body);
	publish.page = page;
	u32_store_relaxed(&publish.there, 1); /* relaxed: a hint */
	return 0;
}

static void unmap_page(void)
{
	if (publish.page)
		(void)os_unmap(publish.page, PUBLISHED_BYTES);
	publish.page = NULL;
	u32_store_relaxed(&publish.there, 0); /* relaxed: a hint */
}

static void close_page(void)
{
	char path[PUBLISHED_PATH_BYTES];

	if (publish.page) {
		published_path(path, os_process_id());
		os_remove_file(path);
	}
	unmap_page();
	os_free(publish.body);
	publish.body = NULL;
}

/* No lock: whoever exits may have it.  The name is this process's alone. */
static __attribute__((destructor)) void remove_at_exit(void)
{
	char path[PUBLISHED_PATH_BYTES];

	/* relaxed: a hint; a file that is just being made may stay */
	if (!u32_load_relaxed(&publish.there))
		return;
	published_path(path, os_process_id());
	os_remove_file(path);
}

/* ---- what is in it ---- */

/* The words of the record; 0: it is not to be there. */
static uint64_t put_record(struct publish_item *item, uint64_t *to)
{
	struct published_record record = {
		.words = (uint32_t)((sizeof(record) + item->bytes) / 8),
		.kind = item->kind,
		.id = item->id,
		.budget = item->budget ? item->budget->id : 0,
	};

	memcpy(record.name, item->name, sizeof(record.name));
	if (!item->fill(item, to + sizeof(record) / 8))
		return 0;
	memcpy(to, &record, sizeof(record));
	return record.words;
}

static void write_page(uint64_t now_ns)
{
	uint64_t *body = publish.body;
	struct published_head head;

	memcpy(&head, body, sizeof(head));
	head.words = sizeof(head) / 8;
	head.records = head.omitted = 0;
	for (struct publish_item *i = publish.items; i; i = i->next) {
		uint64_t words = sizeof(struct published_record) / 8 +
				 i->bytes / 8;
		bool fits = head.words + words <= PUBLISHED_WORDS;

		words = fits ? put_record(i, body + head.words) : 0;
		head.words += words;
		head.records += words != 0;
		head.omitted += !fits;
	}
	head.written_ns = now_ns;
	head.writes_total++;
	memcpy(body, &head, sizeof(head));
	published_write(publish.page, body);
}

/* Also where there is no file: after a fork, or because it could not be had. */
static int refresh(uint64_t now_ns)
{
	int ret = publish.page ? 0 : open_page();

	if (!ret)
		write_page(now_ns);
	publish.due_ns = now_ns + PERIOD_NS;
	return ret;
}

uint64_t publish_refresh(uint64_t now_ns)
{
	if (!publish.wanted)	/* a pool is being made or destroyed */
		return OS_FOREVER;
	if (now_ns >= publish.due_ns)
		refresh(now_ns);
	return publish.due_ns - now_ns;
}

int publish_start(void)
{
	int ret;

	keeper_hold();
	publish.wanted++;
	ret = refresh(os_now_ns());
	keeper_let_go();
	keeper_kick();
	return ret;
}

void publish_stop(void)
{
	keeper_hold();
	if (!--publish.wanted)
		close_page();
	keeper_let_go();
}

/* The page is the parent's. */
void publish_forked(void)
{
	unmap_page();
	publish.due_ns = 0;
}
