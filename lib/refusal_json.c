/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The failure record as JSON: the names of the struct's members. */
#include <errno.h>
#include <string.h>

#include "json.h"
#include "options.h"
#include "seg.h"

static const struct json_field plain[] = {
	JSON_FIELD(seg_refusal, bytes),
	JSON_FIELD(seg_refusal, class_index),
	JSON_FIELD(seg_refusal, node),
	JSON_FIELD(seg_refusal, waited_ns),
	JSON_FIELD(seg_refusal, refusals_total),
	JSON_FIELD(seg_refusal, limit_bytes),
	JSON_FIELD(seg_refusal, charged_bytes),
	JSON_FIELD(seg_refusal, room_bytes),
	JSON_FIELD(seg_refusal, deferred_bytes),
	JSON_FIELD(seg_refusal, active_bytes),
	JSON_FIELD(seg_refusal, unused_bytes),
	JSON_FIELD(seg_refusal, decommitted_bytes),
	JSON_FIELD(seg_refusal, cache_weight),
	JSON_FIELD(seg_refusal, pinned_weight),
	JSON_FIELD(seg_refusal, cache_deferred_weight),
	JSON_FIELD(seg_refusal, tagged_pins),
	JSON_FIELD(seg_refusal, error),
	JSON_FIELD(seg_refusal, error_age_ns),
	JSON_FIELD(seg_refusal, retired_bytes),
	JSON_FIELD(seg_refusal, discarded_bytes),
	JSON_FIELD(seg_refusal, asks),
	JSON_FIELD(seg_refusal, given_bytes),
	JSON_FIELD(seg_refusal, holders),
	JSON_FIELD(seg_refusal, reclaimers),
	JSON_END,
};

static const struct json_field class_fields[] = {
	JSON_FIELD(seg_refusal_class, active),
	JSON_FIELD(seg_refusal_class, cached),
	JSON_FIELD(seg_refusal_class, unused),
	JSON_FIELD(seg_refusal_class, decommitted),
	JSON_FIELD(seg_refusal_class, deferred),
	JSON_END,
};

static const struct json_field holder_fields[] = {
	JSON_FIELD(seg_holder, id),
	JSON_FIELD(seg_holder, charged_bytes),
	JSON_FIELD(seg_holder, active_bytes),
	JSON_FIELD(seg_holder, guaranteed_bytes),
	JSON_END,
};

static const struct json_field pin_fields[] = {
	JSON_FIELD(seg_pin_info, tag),
	JSON_FIELD(seg_pin_info, key),
	JSON_FIELD(seg_pin_info, weight),
	JSON_FIELD(seg_pin_info, held_ns),
	JSON_END,
};

static const struct json_field tag_fields[] = {
	JSON_FIELD(seg_tag_sum, tag),
	JSON_FIELD(seg_tag_sum, pins),
	JSON_FIELD(seg_tag_sum, weight),
	JSON_FIELD(seg_tag_sum, longest_ns),
	JSON_END,
};

static const char *reason_name(uint64_t reason)
{
	static const char *const names[] = {
		[SEG_REFUSED_LIMIT] = "limit",
		[SEG_REFUSED_SYSTEM] = "system",
		[SEG_REFUSED_INSIDE] = "inside",
		[SEG_REFUSED_PARENT] = "parent",
		[SEG_REFUSED_DEFERRED] = "deferred",
		[SEG_REFUSED_PINNED] = "pinned",
		[SEG_REFUSED_FLOOR] = "floor",
		[SEG_REFUSED_IN_USE] = "in_use",
		[SEG_REFUSED_NODE] = "node",
	};

	return reason < sizeof(names) / sizeof(*names) ? names[reason] : NULL;
}

static bool is_zero(const void *object, size_t bytes)
{
	const char *at = object;

	return options_surplus_is_zero(at, at + bytes);
}

static void put_classes(struct json *j, const struct seg_refusal *r)
{
	json_open(j, "classes", '[');
	for (unsigned c = 0; c < SEG_CLASSES; c++) {
		if (is_zero(&r->classes[c], sizeof(r->classes[c])))
			continue;
		json_open(j, NULL, '{');
		json_number(j, "class", c);
		json_fields(j, class_fields, &r->classes[c]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_holders(struct json *j, const struct seg_refusal *r)
{
	json_open(j, "holder", '[');
	for (unsigned i = 0; i < SEG_HOLDERS_MOST && r->holder[i].kind; i++) {
		json_open(j, NULL, '{');
		json_string(j, "kind", r->holder[i].kind == SEG_HOLDER_POOL ?
					       "pool" : "budget");
		json_fields(j, holder_fields, &r->holder[i]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_reclaimer(struct json *j, const struct seg_reclaimer_info *r)
{
	char name[sizeof(r->name) + 1] = "";

	memcpy(name, r->name, sizeof(r->name));
	json_open(j, NULL, '{');
	json_string(j, "name", name);
	json_signed(j, "priority", r->priority);
	json_number(j, "asked_total", r->asked_total);
	json_number(j, "given_bytes_total", r->given_bytes_total);
	json_number(j, "in_vain", r->in_vain);
	json_close(j, '}');
}

static void put_reclaimers(struct json *j, const struct seg_refusal *r)
{
	json_open(j, "reclaimer", '[');
	for (unsigned i = 0; i < SEG_RECLAIMERS_MOST && i < r->reclaimers; i++)
		put_reclaimer(j, &r->reclaimer[i]);
	json_close(j, ']');
}

static void put_pins(struct json *j, const char *key,
		     const struct seg_pin_info *pins)
{
	json_open(j, key, '[');
	for (unsigned i = 0; i < SEG_PINS_MOST && pins[i].tag; i++) {
		json_open(j, NULL, '{');
		json_fields(j, pin_fields, &pins[i]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_tags(struct json *j, const struct seg_refusal *r)
{
	json_open(j, "tags", '[');
	for (unsigned i = 0; i < SEG_PINS_MOST && r->tags[i].tag; i++) {
		json_open(j, NULL, '{');
		json_fields(j, tag_fields, &r->tags[i]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

int seg_refusal_json(const struct seg_refusal *refusal, char *buffer,
		     size_t bytes)
{
	struct seg_refusal r = { .size = sizeof(r) };
	struct json j;

	if (!result_is_valid(refusal) || (bytes && !buffer))
		return -EINVAL;
	result_get(&r, sizeof(r), refusal);
	json_begin(&j, buffer, bytes);
	json_open(&j, NULL, '{');
	json_string(&j, "reason", reason_name(r.reason));
	json_fields(&j, plain, &r);
	put_classes(&j, &r);
	put_holders(&j, &r);
	put_reclaimers(&j, &r);
	put_pins(&j, "longest", r.longest);
	put_pins(&j, "biggest", r.biggest);
	put_tags(&j, &r);
	json_close(&j, '}');
	return json_end(&j);
}
