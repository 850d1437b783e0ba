# Copyright (c) 2026, the iterable_sync developers

# Payloads are UTF-8 whatever the database's encoding is, or the row is told
# apart as one that cannot be.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $node = start_cluster('main', extension => 0);

# A database with a table "person" and a sync of it.
sub make_database
{
	my ($name, $encoding) = @_;

	$node->safe_psql('postgres',
		"CREATE DATABASE $name ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->safe_psql($name, q{
		CREATE EXTENSION iterable_sync;
		SELECT iterable_create_connection('prod', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
		CREATE TABLE person (id text PRIMARY KEY, email text DEFAULT 'a@example.com', t text, j json, jb jsonb, a text[], c char(5), n name);
		SELECT iterable_create_sync('people', 'prod', 'person', 'user', 'id', match_field => 'email', schedule => 'manual');
	});
	foreach my $column (qw(t j jb a c n))
	{
		$node->safe_psql($name, "SELECT iterable_add_mapping('people', '$column', '$column')");
	}
	return;
}

# Output in the encoding of the client, which is UTF-8 unless said otherwise.
sub query
{
	my ($name, $sql, $client) = @_;

	$client //= 'UTF8';
	return $node->safe_psql($name, "SET client_encoding = '$client'; $sql");
}

my $preview = 'SELECT key, payload, problem FROM iterable_preview(\'people\')';

#
# LATIN1: everything can be converted
#
make_database('latin1', 'LATIN1');
query('latin1', q{
	CREATE TYPE mood AS ENUM ('très bien');
	ALTER TABLE person ADD m mood, ADD "prénom" text;
	SELECT iterable_add_mapping('people', 'humeur.élevée', 'm'), iterable_add_mapping('people', 'prénom', 'prénom'),
		iterable_add_mapping('people', 'constante', constant => 'ça'), iterable_add_mapping('people', 'haut', expression => $$upper("prénom") || 'ß'$$);
	INSERT INTO person (id, t, j, jb, a, c, n, m, "prénom") VALUES
		('é"1', 'ÿ¡' || chr(127), '{"é":"\u20ac ü"}', '{"é": "ü"}', '{é,NULL}', 'ö', 'ñ', 'très bien', 'zoé');
});
is( query('latin1', $preview),
	q~é"1|{"email":"a@example.com","dataFields":{"a":["é",null],"c":"ö","constante":"ça","haut":"ZOéß",~
	  . q~"humeur":{"élevée":"très bien"},"j":{"é":"\u20ac ü"},"jb":{"é": "ü"},"n":"ñ","prénom":"zoé","t":"ÿ¡~
	  . qq~\x7f"}}|~,
	'LATIN1 is converted');
is( query('latin1', 'SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()'),
	'LATIN1', 'the database is LATIN1');

#
# WIN1252: one byte has no meaning
#
make_database('win1252', 'WIN1252');
query('win1252', q{
	INSERT INTO person (id, t) VALUES ('1', '€'), ('2', E'a\x81b'), ('3', 'x');
	INSERT INTO person (id, c) VALUES (E'4\x81', 'x');
}, 'WIN1252');
is( query('win1252', "SELECT replace(key, E'\\x81', '?'), payload, problem FROM iterable_preview('people')", 'WIN1252'),
	join("\n",
		'1|{"email":"a@example.com","dataFields":{"t":"' . "\xe2\x82\xac" . '"}}|',
		'2||bad_encoding: a value has characters that do not exist in UTF-8',
		'3|{"email":"a@example.com","dataFields":{"t":"x"}}|',
		'4?|{"email":"a@example.com","dataFields":{"c":"x"}}|'),
	'WIN1252 is converted where it can be');

#
# EUC_JP: several bytes a character
#
make_database('euc_jp', 'EUC_JP');
query('euc_jp', q{INSERT INTO person (id, t, jb) VALUES ('東', '京都"', '{"鍵": ["値"]}')});
is( query('euc_jp', $preview),
	q{東|{"email":"a@example.com","dataFields":{"jb":{"鍵": ["値"]},"t":"京都\""}}|},
	'EUC_JP is converted');

#
# SQL_ASCII: whatever it is, it is sent if it is UTF-8
#
make_database('sql_ascii', 'SQL_ASCII');
query('sql_ascii', q{
	INSERT INTO person (id, t) VALUES ('1', 'é€'), ('2', E'a\xe9b'), ('3', E'\xf0\x9f\x98\x80'), ('4', E'\xed\xa0\x80'), ('5', E'\xc0\x80');
	INSERT INTO person (id, j) VALUES ('6', E'{"\xe9":1}'), ('7', '{"é":1}');
	INSERT INTO person (id, jb) VALUES ('8', E'"\xff"');
	INSERT INTO person (id, a) VALUES ('91', ARRAY['ok', E'\xe9']);
	INSERT INTO person (id, email) VALUES ('92', E'\xe9@example.com');
	INSERT INTO person (id, c) VALUES (E'93\xe9', 'bad'), ('94', 'good');
}, 'SQL_ASCII');
is( query('sql_ascii', q{SELECT replace(key, E'\xe9', '?'), payload, problem FROM iterable_preview('people', 100)}, 'SQL_ASCII'),
	join("\n",
		'1|{"email":"a@example.com","dataFields":{"t":"é€"}}|',
		'2||bad_encoding: the value for "t" is not valid in UTF-8',
		'3|{"email":"a@example.com","dataFields":{"t":"' . "\xf0\x9f\x98\x80" . '"}}|',
		'4||bad_encoding: the value for "t" is not valid in UTF-8',
		'5||bad_encoding: the value for "t" is not valid in UTF-8',
		'6||bad_encoding: the value for "j" is not valid in UTF-8',
		'7|{"email":"a@example.com","dataFields":{"j":{"é":1}}}|',
		'8||bad_encoding: the value for "jb" is not valid in UTF-8',
		'91||bad_encoding: the value for "a" is not valid in UTF-8',
		'92||bad_encoding: the value for "email" is not valid in UTF-8',
		'93?|{"email":"a@example.com","dataFields":{"c":"bad"}}|',
		'94|{"email":"a@example.com","dataFields":{"c":"good"}}|'),
	'SQL_ASCII is checked');
query('sql_ascii', q{SELECT iterable_add_mapping('people', 'x', constant => 'é')}, 'SQL_ASCII');
is( query('sql_ascii', q{SELECT payload -> 'dataFields' ->> 'x' FROM iterable_preview('people', 1)}, 'SQL_ASCII'),
	'é', 'a constant in UTF-8');
query('sql_ascii', q{UPDATE iterable.mapping SET constant = E'\xe9' WHERE destination = 'x'}, 'SQL_ASCII');
like( sql_error($node, q{SET client_encoding = 'SQL_ASCII'; SELECT * FROM iterable_preview('people')}, 'sql_ascii'),
	qr/^22021: mapping to "x" is not valid in UTF-8/, 'a constant that is none');

#
# What was wrong with the rows is nowhere in the log
#
log_lacks($node, "a\xe9b", 'no value is logged');

$node->stop;
done_testing();
