-- api.currencies: the currencies that a drop can have, each with the decimals of its amounts.
--
-- Purpose: the one place that knows them: the active codes of ISO 4217 that stand for money, without metals, funds and test codes.
--
-- Locks: none. Errors: none.

create or replace function api.currencies()
returns table (currency text, decimals integer)
language sql immutable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.currency, l.decimals
  from (values
    (0, '
      BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF
    '),
    (2, '
      AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE
      CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW
      KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK
      PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS
      UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
    '),
    (3, '
      BHD IQD JOD KWD LYD OMR TND
    ')
  ) as l (decimals, codes)
  cross join lateral regexp_split_to_table(btrim(l.codes, e' \n'), '\s+') as c (currency)
$$;

comment on function api.currencies() is
'List the currencies that a drop can have, by their codes of ISO 4217, each with the number of decimals of its amounts.';
